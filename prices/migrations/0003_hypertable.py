from django.db import migrations

from market.storage import MakeHypertable


class Migration(migrations.Migration):
    dependencies = [("prices", "0002_price_row")]

    operations = [MakeHypertable("price_history")]
