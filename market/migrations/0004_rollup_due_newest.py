from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("market", "0003_core_symbols"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="rollupdue",
            index=models.Index(fields=["-end", "id"], name="rollup_due_newest"),
        ),
    ]
