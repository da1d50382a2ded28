"""Settings. Every variable of `.env.example` is read here, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from config import metrics
from config.embedded import database_url, redis_url
from config.settings.environment import (
    ROOT,
    between,
    broker_url,
    check_networks,
    check_redis,
    database,
    env,
    one_of,
    seal,
    url_or_none,
)
from config.version import VERSION
from market.seeds import EXCHANGES as _EXCHANGES

DEVELOPMENT_SECRET = "development-only-secret-key-never-in-production-0123456789"
MIN_SECRET_LENGTH = 32

# --- where and how ---------------------------------------------------------------------------
ENVIRONMENT = env.str("ENVIRONMENT", "development", validate=one_of("development", "production"))
ORACLE_HOME = Path(env.str("ORACLE_HOME", str(ROOT / ".local")) or ROOT / ".local").resolve()
PORT = env.int("PORT", 8000, validate=between(1, 65535))
SIMULATOR_URL = env.str("SIMULATOR_URL", "")
DEBUG = env.bool("DEBUG", False)
SECRET_KEY = env.str("SECRET_KEY", DEVELOPMENT_SECRET)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ALLOWED_ORIGINS", [])
TRUSTED_PROXIES: list[str] = env.list("TRUSTED_PROXIES", [])
HTTPS = env.bool("HTTPS", False)
ADMIN_PASSWORD = env.str("ADMIN_PASSWORD", "")
ADMIN_TOKEN = env.str("ADMIN_TOKEN", "")
LOG_LEVEL = env.str(
    "LOG_LEVEL", "info", validate=one_of("debug", "info", "warning", "error", "critical")
)
LOG_FORMAT = env.str("LOG_FORMAT", "text", validate=one_of("text", "json"))

# --- what is priced and how fresh it must be ---------------------------------------------------
SYMBOLS: list[str] = env.list("SYMBOLS", [])
TICKER_MAX_AGE_MS = env.int("TICKER_MAX_AGE_MS", 10_000, validate=between(1_000, 600_000))
MAX_DEVIATION_FACTOR = env.int("MAX_DEVIATION_FACTOR", 3, validate=between(2, 1_000))
MAX_RATE_SPREAD_BPS = env.int("MAX_RATE_SPREAD_BPS", 200, validate=between(1, 10_000))
MAX_CLOCK_OFF_MS = env.int("MAX_CLOCK_OFF_MS", 5_000, validate=between(100, 10**15))
FLUSH_GRACE_MS = env.int("FLUSH_GRACE_MS", 3_000, validate=between(0, 60_000))
# The Central Bank of Russia names no new rate from Saturday to Monday, nor on holidays.
FX_MAX_AGE_MS = env.int(
    "FX_MAX_AGE_MS", 4 * 86_400_000, validate=between(3_600_000, 30 * 86_400_000)
)
CBR_URL = env.str("CBR_URL", "https://www.cbr.ru")

# --- shared state, breaker, leases, limits ------------------------------------------------------
DATABASE_URL = env.str("DATABASE_URL", "")
REDIS_URL = env.str("REDIS_URL", "")
REDIS_PREFIX = env.str("REDIS_PREFIX", "oracle")
BREAKER_FAILURES = env.int("BREAKER_FAILURES", 5, validate=between(1, 1_000))
BREAKER_WINDOW_MS = env.int("BREAKER_WINDOW_MS", 30_000, validate=between(1_000, 3_600_000))
BREAKER_OPEN_MS = env.int("BREAKER_OPEN_MS", 60_000, validate=between(1_000, 3_600_000))
LEASE_TTL_MS = env.int("LEASE_TTL_MS", 30_000, validate=between(1_000, 600_000))
LEASE_HEARTBEAT_MS = env.int("LEASE_HEARTBEAT_MS", 10_000, validate=between(100, 300_000))
TRADE_LOG_KEEP_MS = env.int("TRADE_LOG_KEEP_MS", 3_600_000, validate=between(60_000, 86_400_000))
TRADE_LOG_MAX_ENTRIES = env.int("TRADE_LOG_MAX_ENTRIES", 250_000, validate=between(100, 10_000_000))
RATE_LIMIT_PER_MINUTE = env.int("RATE_LIMIT_PER_MINUTE", 100, validate=between(1, 10_000_000))
STREAMS_PER_ADDRESS = env.int("STREAMS_PER_ADDRESS", 100, validate=between(1, 10_000))
STREAM_MESSAGES_PER_MINUTE = env.int(
    "STREAM_MESSAGES_PER_MINUTE", 300, validate=between(1, 1_000_000)
)
# More than a web request has; a task that needs another limit says so (market.limit_statements).
TASK_STATEMENT_TIMEOUT_MS = env.int(
    "TASK_STATEMENT_TIMEOUT_MS", 60_000, validate=between(10_000, 3_600_000)
)
HTTP_CONNECT_TIMEOUT_MS = env.int("HTTP_CONNECT_TIMEOUT_MS", 1_000, validate=between(50, 60_000))
HTTP_TOTAL_TIMEOUT_MS = env.int("HTTP_TOTAL_TIMEOUT_MS", 2_000, validate=between(100, 60_000))
TIMESCALEDB = env.str("TIMESCALEDB", "auto", validate=one_of("auto", "on", "off"))
CHUNK_DAYS = env.int("CHUNK_DAYS", 7, validate=between(1, 365))
COMPRESS_AFTER_DAYS = env.int("COMPRESS_AFTER_DAYS", 7, validate=between(0, 36_500))
RETENTION_DAYS = env.int("RETENTION_DAYS", 730, validate=between(0, 36_500))
EXCHANGE_RETENTION_DAYS = env.int("EXCHANGE_RETENTION_DAYS", 0, validate=between(0, 36_500))
PRICE_HISTORY_RETENTION_DAYS = env.int(
    "PRICE_HISTORY_RETENTION_DAYS", 90, validate=between(0, 36_500)
)
CCXT_RATE_LIMIT_MS = env.int("CCXT_RATE_LIMIT_MS", 100, validate=between(100, 60_000))
PROMOTE_SYMBOLS = env.bool("PROMOTE_SYMBOLS", False)
ARTIFACTS_DIR = Path(env.str("ARTIFACTS_DIR", "") or ORACLE_HOME / "artifacts").resolve()
ARTIFACTS_KEEP_DAYS = env.int("ARTIFACTS_KEEP_DAYS", 90, validate=between(0, 36_500))
BACKTEST_THREADS = env.int("BACKTEST_THREADS", 1, validate=between(1, 256))
GIT_SHA = env.str("GIT_SHA", "")
METRICS_FOLDER = env.str("PROMETHEUS_MULTIPROC_DIR", "")

# Adapters' base URLs, when they are not the exchange's own: BINANCE_REST_URL, BINANCE_WS_URL …
EXCHANGE_REST_URLS = {
    name: env.str(f"{name.upper()}_REST_URL", "", validate=url_or_none("http", "https"))
    for name in _EXCHANGES
}
EXCHANGE_WS_URLS = {
    name: env.str(f"{name.upper()}_WS_URL", "", validate=url_or_none("ws", "wss"))
    for name in _EXCHANGES
}

seal()
check_networks("TRUSTED_PROXIES", TRUSTED_PROXIES)

SIMULATED = bool(SIMULATOR_URL)
if LEASE_HEARTBEAT_MS * 2 > LEASE_TTL_MS:
    raise ImproperlyConfigured(
        f"environment: LEASE_HEARTBEAT_MS ({LEASE_HEARTBEAT_MS}) must be at most half of "
        f"LEASE_TTL_MS ({LEASE_TTL_MS}), or one late heartbeat loses the lease"
    )
if RETENTION_DAYS == 1:
    raise ImproperlyConfigured(
        "environment: RETENTION_DAYS must be 0 (for ever), or 2 or more: the days of a candle are "
        "rolled up while all of it is kept"
    )
if ENVIRONMENT == "production":
    if SECRET_KEY == DEVELOPMENT_SECRET or len(SECRET_KEY) < MIN_SECRET_LENGTH:
        raise ImproperlyConfigured(
            f"environment: production needs a SECRET_KEY of its own, {MIN_SECRET_LENGTH} "
            "characters or more"
        )
    if DEBUG:
        raise ImproperlyConfigured("environment: production refuses DEBUG=true")
    for name, value in (("ADMIN_PASSWORD", ADMIN_PASSWORD), ("ADMIN_TOKEN", ADMIN_TOKEN)):
        if value and (value == "admin" or len(value) < 12):
            raise ImproperlyConfigured(
                f"environment: production refuses {name}={'admin' if value == 'admin' else '…'}: "
                "12 characters or more"
            )
    if not DATABASE_URL or not REDIS_URL:
        raise ImproperlyConfigured("environment: production needs DATABASE_URL and REDIS_URL")

# --- Django --------------------------------------------------------------------------------------
BASE_DIR = ROOT
DATABASES = {"default": database(DATABASE_URL or database_url(ORACLE_HOME))}
REDIS_URL = check_redis(REDIS_URL or redis_url(ORACLE_HOME))

METRICS_FOLDER = METRICS_FOLDER or str(ORACLE_HOME / "metrics")
metrics.share(Path(METRICS_FOLDER))

INSTALLED_APPS = [
    # Not its usual configuration, which imports every admin module in every process: config.urls
    # does, and only the web process has that.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_prometheus",
    "config",
    "market",
    "ingestion",
    "prices",
    "backtests",
]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "config.middleware.headers",
    "config.bulkhead.bulkhead",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "config" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "config.pages.simulated",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

STATIC_URL = "/static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
# Served from the packages themselves, so that nothing has to be collected first.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
# Health checks and Prometheus ask from inside, past the proxy that speaks TLS.
SECURE_REDIRECT_EXEMPT = [r"^(api/v1/)?health", r"^metrics$"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": [
        "config.rest.ExactJSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # The first one says how to: who sends nothing gets 401 and `WWW-Authenticate: Bearer`.
        "config.rest.BearerAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_THROTTLE_CLASSES": ["config.rest.AddressThrottle"],
    "EXCEPTION_HANDLER": "config.rest.error_answer",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Token Price Oracle",
    "DESCRIPTION": "Many exchanges in, one trustworthy price per pair out.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "config.edge_schema.add_edge",
    ],
    # Several answers have a field `status`, each with words of its own.
    "ENUM_NAME_OVERRIDES": {
        "PriceStatus": ["fresh", "degraded", "stale"],
        "HealthStatus": ["ok", "degraded", "down"],
        "ReadyStatus": ["ok", "not_ready"],
        "UpDown": ["up", "down"],
        "RunType": ["tune", "wfo"],
        "Objective": ["sharpe", "sharpe_dd_penalty", "return", "return_dd_penalty", "calmar"],
        "WorkStatus": ["pending", "running", "succeeded", "failed", "canceled"],
    },
}

CELERY_BROKER_URL = broker_url(REDIS_URL)

# Our own configuration (structlog), done once by config.logs when the apps are ready.
LOGGING_CONFIG = None
PROMETHEUS_EXPORT_MIGRATIONS = False
