"""What the live edge answers before Django sees it, for OpenAPI: JSON-RPC and the streams.

drf-spectacular describes views, and there are none of these. A test asks each example of a running
server and compares the answer with what is told here.
"""

from __future__ import annotations

from typing import Any

from prices.live.sockets import MAX_MESSAGE_BYTES
from prices.rpc.requests import MAX_ITEMS

# Named as the views are, for the list of all endpoints.
ENDPOINTS = {
    "rpc:invoke": "/netron/invoke",
    "rpc:batch": "/netron/batch",
    "rpc:authenticate": "/netron/authenticate",
    "rpc:discover": "/discover",
    "prices:stream": "/api/v1/stream",
}
WEBSOCKET = "/ws/prices"

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_ANY: Json = {"description": "Any JSON value."}
_ID: Json = {"type": "string", "maxLength": 256, "description": "Yours; the answer repeats it."}
_FLAG: Json = {"type": "boolean"}
_COUNT: Json = {"type": "integer"}
_MS: Json = {"type": "integer", "description": "Unix milliseconds."}
_INPUT: Json = {
    "oneOf": [{"type": "object"}, {"type": "array", "items": _ANY}],
    "description": "The argument as an object, bare or the first of an array.",
}
_CALL = {
    "id": "1",
    "service": "PricesService@2.0.0",
    "method": "getPrice",
    "input": {"pair": "btc-usdt"},
}
_QUOTE = {"pair": "btc-usdt", "price": 42150.5, "timestamp": 1704110400000}
_SLUGS: Json = {"type": "array", "items": _TEXT, "example": ["btc-usdt"]}


def _object(required: str, **properties: Json) -> Json:
    # OpenAPI takes no empty list of them.
    needed = {"required": required.split()} if required else {}
    return {"type": "object", "properties": properties, **needed}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str) -> Json:
    return {"type": "array", "items": _ref(name)}


_DONE: Json = {"id": _ID, "version": _TEXT, "timestamp": _MS, "success": {"enum": [True]}}
_ENVELOPE = "id version timestamp success"

SCHEMAS: dict[str, Json] = {
    "RpcCall": _object(
        "id service method input",
        id=_ID,
        service={**_TEXT, "description": "Name@x.y.z, or the bare name."},
        method=_TEXT,
        input=_INPUT,
    ),
    "RpcAnswer": _object(
        f"{_ENVELOPE} data hints",
        **_DONE,
        data=_ANY,
        hints=_object("metrics cache", metrics={"type": "object"}, cache={"type": "object"}),
    ),
    "RpcError": _object(
        "code message details",
        code={**_TEXT, "description": "PRICE_1001, …; an HTTP status where it is no business code"},
        message=_TEXT,
        details={"type": "object", "description": "`errorCode` repeats a business code."},
    ),
    "RpcFailure": _object(
        f"{_ENVELOPE} error",
        id={**_ID, "nullable": True},
        version=_TEXT,
        timestamp=_MS,
        success={"enum": [False]},
        error=_ref("RpcError"),
    ),
    "RpcBatch": _object(
        "id requests",
        id=_ID,
        requests={**_list_of("RpcCall"), "maxItems": MAX_ITEMS},
        options=_object(
            "",
            parallel={**_FLAG, "default": True},
            stopOnError={**_FLAG, "default": False, "description": "Only where not parallel."},
        ),
    ),
    "RpcItem": _object(
        "id success", id={**_ID, "nullable": True}, success=_FLAG, data=_ANY, error=_ref("RpcError")
    ),
    "RpcBatchAnswer": _object(
        "id version timestamp responses hints",
        id=_ID,
        version=_TEXT,
        timestamp=_MS,
        responses=_list_of("RpcItem"),
        hints=_object(
            "successCount failureCount totalTime",
            successCount=_COUNT,
            failureCount=_COUNT,
            totalTime={"type": "number", "description": "Milliseconds."},
        ),
    ),
    "RpcLogin": _object(
        "id credentials",
        id=_ID,
        credentials=_object("username password", username=_TEXT, password=_TEXT),
    ),
    "RpcToken": _object(
        f"{_ENVELOPE} result data",
        **_DONE,
        data={**_ANY, "description": "The same as `result`."},
        result=_object("token tokenType user", token=_TEXT, tokenType=_TEXT, user=_ANY),
    ),
    "RpcServices": _object(
        "version timestamp success services",
        version=_TEXT,
        timestamp=_MS,
        success={"enum": [True]},
        services={"type": "array", "items": {"type": "object"}},
    ),
    "SocketRequest": {
        "description": f"What a client says: one JSON object, {MAX_MESSAGE_BYTES} bytes at most.",
        "anyOf": [
            _object("subscribe", subscribe=_SLUGS),
            _object("unsubscribe", unsubscribe=_SLUGS),
            _object("ping", ping=_ANY),
            _object(
                "id service method input",
                id=_ID,
                service=_TEXT,
                method={"enum": ["streamPrices"]},
                input=_object("pairs", pairs=_SLUGS),
            ),
            _object("id cancel", id=_ID, cancel={"enum": [True]}),
        ],
    },
    "SocketMessage": {
        "description": "What the server says. Those with an `id` are of that streamPrices.",
        "anyOf": [
            _object("type data", type={"enum": ["price"]}, data=_ref("PriceAnswer")),
            _object("type symbols", type={"enum": ["subscribed"]}, symbols=_SLUGS),
            _object("type error", type={"enum": ["error"]}, error=_ref("ErrorBody")),
            _object("type timestamp", type={"enum": ["ping", "pong"]}, timestamp=_MS),
            _object("id data", id=_ID, data={"type": "object", "example": _QUOTE}),
            _object("id error", id=_ID, error=_ref("RpcError")),
            _object("id done", id=_ID, done={"enum": [True]}),
        ],
    },
}


def _json(schema: str, example: Json | None = None) -> Json:
    told: Json = {"schema": _ref(schema)}
    return {"application/json": told if example is None else {**told, "example": example}}


def _rpc(name: str, summary: str, schemas: tuple[str, str], example: Json, reasons: Json) -> Json:
    asked, answered = schemas
    failures = {
        status: {"description": text, "content": _json("RpcFailure")}
        for status, text in reasons.items()
    }
    return {
        "post": {
            "tags": ["rpc"],
            "operationId": f"rpc_{name}",
            "summary": summary,
            "security": [],
            "requestBody": {"required": True, "content": _json(asked, example)},
            "responses": {
                "200": {"description": "Done.", "content": _json(answered)},
                "400": {"description": "No such JSON, or no such envelope.", **_failure()},
                **failures,
                "413": {"description": "The body is larger than 1 MB.", **_failure()},
                "429": {"description": "Too many; Retry-After says when.", **_failure()},
                "503": {"description": "There is no such price, or a store is away.", **_failure()},
            },
        }
    }


def _failure() -> Json:
    return {"content": _json("RpcFailure")}


def _refusals(**reasons: str) -> Json:
    return {
        status.lstrip("_"): {"description": text, "content": _json("ErrorAnswer")}
        for status, text in reasons.items()
    }


_STREAM: Json = {
    "get": {
        "tags": ["prices"],
        "operationId": "price_stream",
        "summary": "Prices as server-sent events",
        "description": "`event: price`, each with an `id:` and a price as `/api/v1/prices/{slug}` "
        "answers it; first the current ones, then each update: of the index every second, of a "
        "derived symbol every ten. A comment every 15 s while nothing happens. A client that comes "
        "back with `Last-Event-ID` gets what it missed, as far as that is still known; one that "
        "reads too slowly is dropped.",
        "security": [],
        "parameters": [
            {
                "name": "symbols",
                "in": "query",
                "description": "Separated by commas; default: all.",
                "schema": _TEXT,
                "example": "btc-usdt,eth-usdt",
            },
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The `id` of the last event that came; browsers send it themselves.",
                "schema": _TEXT,
            },
        ],
        "responses": {
            "200": {
                "description": "Events, until one of the two sides leaves.",
                "content": {
                    "text/event-stream": {
                        "schema": _TEXT,
                        "example": "event: price\nid: 1f2e3d4c-17\n"
                        'data: {"symbol":"BTC/USDT","price":42150.5,"status":"fresh"}\n\n',
                    }
                },
            },
            **_refusals(
                _400="The symbols cannot be read.",
                _404="There is no such symbol.",
                _429="Too many requests, or too many open streams of this address.",
                _503="No room for another stream, or no symbols are known yet.",
            ),
        },
    }
}
_SOCKET: Json = {
    "get": {
        "tags": ["prices"],
        "operationId": "price_socket",
        "summary": "Prices over a WebSocket",
        "description": "A WebSocket handshake (`ws://…/ws/prices`). Then each side sends JSON "
        "objects: the client `SocketRequest`, the server `SocketMessage`. Wrong messages are told, "
        "and after 20 of them, as after too many in a minute, the connection is closed (1008); one "
        "that is too large closes it at once (1009). `/netron/ws` is the same, for streamPrices.",
        "security": [],
        "responses": {
            "101": {
                "description": "Switching protocols: SocketMessage from here on.",
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [_ref("SocketMessage"), _ref("SocketRequest")]},
                        "example": {"subscribe": ["btc-usdt", "btc-rub"]},
                    }
                },
            },
            **_refusals(
                _429="Too many connections in a minute, or too many open streams of this address.",
                _503="There is no room for another stream now.",
            ),
        },
    }
}
_DISCOVER: Json = {
    "get": {
        "tags": ["rpc"],
        "operationId": "rpc_discover",
        "summary": "Services and methods of the JSON-RPC",
        "security": [],
        "responses": {
            "200": {"description": "All there are.", "content": _json("RpcServices")},
            "429": {"description": "Too many; Retry-After says when.", **_failure()},
        },
    }
}
PATHS: dict[str, Json] = {
    "/netron/invoke": _rpc(
        "invoke",
        "Call one method",
        ("RpcCall", "RpcAnswer"),
        _CALL,
        {"404": "No such service, version, method or pair.", "422": "The input is not valid."},
    ),
    "/netron/batch": _rpc(
        "batch",
        "Call several methods; each has an answer or an error of its own",
        ("RpcBatch", "RpcBatchAnswer"),
        {"id": "1", "requests": [_CALL, {**_CALL, "id": "2", "input": {"pair": "nope"}}]},
        {},
    ),
    "/netron/authenticate": _rpc(
        "authenticate",
        "Exchange a user's name and password for the token of the REST API",
        ("RpcLogin", "RpcToken"),
        {"id": "1", "credentials": {"username": "admin", "password": "…"}},
        {"401": "There is no such user with this password."},
    ),
    "/discover": _DISCOVER,
    "/api/v1/stream": _STREAM,
    WEBSOCKET: _SOCKET,
}


def add_edge(result: Json, generator: object, request: object, public: bool) -> Json:
    """A hook of drf-spectacular: the schema with what the edge answers."""
    result["paths"] = dict(sorted((result["paths"] | PATHS).items()))
    result["components"]["schemas"] |= SCHEMAS
    return result
