"""Where things lie in the checkout that the tests belong to."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
CHECKOUT = HELPERS.parent.parent
LIBRARY = CHECKOUT / "viagralib"
COMPANIONS = LIBRARY / "companions"
