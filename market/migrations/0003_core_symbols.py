from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("market", "0002_history"),
    ]

    operations = [
        migrations.CreateModel(
            name="ExchangeCandleRow",
            fields=[
                ("time", models.DateTimeField(primary_key=True, serialize=False)),
                ("exchange", models.CharField(db_collation="C", max_length=32)),
                ("symbol", models.CharField(db_collation="C", max_length=33)),
                ("timeframe", models.CharField(db_collation="C", max_length=4)),
                ("open", models.DecimalField(decimal_places=18, max_digits=38)),
                ("high", models.DecimalField(decimal_places=18, max_digits=38)),
                ("low", models.DecimalField(decimal_places=18, max_digits=38)),
                ("close", models.DecimalField(decimal_places=18, max_digits=38)),
                ("volume", models.DecimalField(decimal_places=18, max_digits=38)),
            ],
            options={
                "verbose_name": "exchange candle",
                "db_table": "ohlcv_exchange",
                "managed": False,
            },
        ),
        migrations.AlterModelOptions(
            name="coverage",
            options={"verbose_name_plural": "coverage"},
        ),
        migrations.AddField(
            model_name="listing",
            name="synced",
            field=models.BooleanField(
                db_default=True,
                default=True,
                help_text="Of its timeframes; whether it is priced is another matter.",
                verbose_name="keep candles up to date",
            ),
        ),
        migrations.AlterField(
            model_name="listing",
            name="enabled",
            field=models.BooleanField(default=True, help_text="A source of the symbol's price."),
        ),
        migrations.AlterField(
            model_name="listing",
            name="timeframes",
            field=ArrayField(
                base_field=models.CharField(max_length=4),
                blank=True,
                default=list,
                help_text="Whose exchange candles are kept: then it is a core symbol.",
                size=None,
            ),
        ),
    ]
