"""Makes the modules of the test kit's peers importable; import it before them."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "kit", "python"))
