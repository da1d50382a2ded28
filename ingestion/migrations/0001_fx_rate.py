from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="FxRate",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("source", models.CharField(max_length=16)),
                ("base", models.CharField(max_length=16)),
                ("quote", models.CharField(max_length=16)),
                ("date", models.DateField(help_text="The day the authority names.")),
                ("rate", models.DecimalField(decimal_places=18, max_digits=38)),
                (
                    "nominal",
                    models.PositiveIntegerField(
                        help_text="The units it quotes; the rate is of one."
                    ),
                ),
                ("fetched_at", models.DateTimeField()),
            ],
            options={
                "db_table": "fx_rate",
                "ordering": ("-date", "base"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("source", "base", "quote", "date"), name="fx_rate_unique"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("rate__gt", 0)), name="fx_rate_positive"
                    ),
                ],
            },
        ),
    ]
