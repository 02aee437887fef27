"""What `import textflow` offers."""

import subprocess
import sys

import textflow


def test_every_public_name_is_there_and_listed() -> None:
    assert set(textflow.__all__) <= set(dir(textflow))
    for name in textflow.__all__:
        assert getattr(textflow, name) is not None


def test_the_import_alone_loads_no_torch() -> None:
    code = "import sys, textflow; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
