import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="PriceHistory",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "symbol",
                        "time",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("symbol", models.CharField(db_collation="C", max_length=33)),
                ("time", models.DateTimeField()),
                ("price", models.DecimalField(decimal_places=18, max_digits=38)),
                (
                    "method",
                    models.CharField(
                        choices=[("vwap", "vwap"), ("median", "median"), ("mean", "mean")],
                        max_length=6,
                    ),
                ),
                (
                    "sources",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), size=None
                    ),
                ),
                ("volume", models.DecimalField(decimal_places=18, max_digits=38, null=True)),
            ],
            options={
                "verbose_name_plural": "price history",
                "db_table": "price_history",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("price__gt", 0)), name="price_history_positive"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("method__in", ("vwap", "median", "mean"))),
                        name="price_history_method",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("volume__gte", 0)), name="price_history_volume"
                    ),
                ],
            },
        ),
    ]
