"""`import longwave` costs torch and nothing heavier; every public name is there when it is used."""

import subprocess
import sys

import pytest

import longwave

OPTIONAL = (
    "lightning",
    "torchmetrics",
    "tensorboard",
    "matplotlib",
    "mlxtend",
    "sklearn",
    "pandas",
    "scipy",
    "transformers",
    "huggingface_hub",
    "tokenizers",
    "jsonargparse",
    "rich",
    "yaml",
)


@pytest.mark.parametrize("code", ("import longwave", "from longwave import S4D, Classifier, LanguageModel; S4D(4)"))
def test_no_optional_package_is_imported(code: str) -> None:
    listed = f"{code}; import sys; print(*(m for m in {OPTIONAL} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", listed], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_loads() -> None:
    assert set(longwave.__all__) <= set(dir(longwave))
    for name in longwave.__all__:
        assert getattr(longwave, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="S4E"):
        longwave.S4E  # noqa: B018  (the access is the test)
