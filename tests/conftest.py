import pytest
from hypothesis import settings

from knock.model import LanguageModel, load

settings.register_profile("knock", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("knock")


@pytest.fixture(scope="session")
def shakespeare() -> LanguageModel:
    return load("shakespeare-hybrid")
