"""The README's calls, run as they stand there."""

import json

import pytest

from tests.flow import readme
from tests.flow.service import Service

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(("command", "printed"), readme.calls())
def test_a_call_answers_as_the_readme_shows(command: str, printed: str, service: Service) -> None:
    answer = readme.run(command, service.url)
    assert readme.shape(readme._cut(answer)) == readme.shape(json.loads(printed))


def test_the_readme_shows_five_calls_and_is_short() -> None:
    assert len(readme.calls()) == 5
    assert len(readme.README.read_text().splitlines()) < 150
