"""Which engine answers: the one that is wanted, once it is loaded, and until then the embedded one."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from services.common.audio import Flush
from services.diarize.choice import Engines
from services.diarize.engine import Diarization, Engine, Update
from services.diarize.loading import Loading


class Named:
    """An engine that is only chosen."""

    max_speakers = 0
    is_lost = False

    def __init__(self, model_id: str, *, is_live: bool = True) -> None:
        self.model_id = model_id
        self.is_live = is_live

    def open(self, speakers: int, expected_duration_s: float) -> Diarization:
        raise NotImplementedError

    def listen(self, audio: AsyncIterator[bytes | Flush], speakers: int) -> AsyncGenerator[Update, None]:
        raise NotImplementedError


class Files:
    """A model whose files come when they are allowed to; what goes wrong before is an error."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.tries = 0
        self.is_tried_again = asyncio.Event()

    async def fetch(self) -> None:
        self.tries += 1
        if self.tries > 1:
            self.is_tried_again.set()
        if self.failures:
            raise self.failures.pop(0)

    def load(self) -> Engine:
        return Named("wanted", is_live=False)


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def loading(files: Files) -> Loading:
    return Loading("wanted", files.fetch, files.load, retry_s=0.0)


def chosen(engines: Engines, speakers: int = 0) -> tuple[str, list[str]]:
    choice = engines.choose(speakers)
    return choice.engine.model_id, [caveat.reason for caveat in choice.caveats]


def test_without_another_engine_the_embedded_one_answers_and_has_nothing_to_say() -> None:
    assert chosen(Engines(Named("embedded"))) == ("embedded", [])


async def test_until_the_wanted_engine_is_loaded_the_embedded_one_answers_and_says_so(loading: Loading) -> None:
    engines = Engines(Named("embedded"), loading, 4)
    assert chosen(engines) == ("embedded", ["FALLBACK_MODEL"])
    assert engines.choose(0).caveats[0].message == "wanted is being loaded. embedded answered."
    await loading.run()
    assert chosen(engines) == ("wanted", [])


async def test_more_speakers_than_the_wanted_engine_tells_apart_are_the_embedded_ones(loading: Loading) -> None:
    await loading.run()
    engines = Engines(Named("embedded"), loading, 4)
    assert chosen(engines, 4) == ("wanted", [])
    assert chosen(engines, 5) == ("embedded", ["MANY_SPEAKERS"])


async def test_who_is_live_is_not_given_to_an_engine_that_does_not_keep_up(loading: Loading) -> None:
    await loading.run()
    engines = Engines(Named("embedded"), loading, 4)
    assert engines.choose(0, is_live=True).engine.model_id == "embedded"
    assert engines.choose(0, is_live=False).engine.model_id == "wanted"


@pytest.mark.parametrize("error", [OSError("The hub is away."), ValueError("It is damaged"), ImportError("no module")])
async def test_what_could_not_be_had_is_tried_again(loading: Loading, files: Files, error: Exception) -> None:
    files.failures = [error, error]
    await loading.run()
    assert loading.engine is not None
    assert files.tries == 3


async def test_why_it_cannot_be_had_is_a_sentence(loading: Loading, files: Files) -> None:
    files.failures = [OSError("The hub is away.")] * 1_000_000
    task = asyncio.create_task(loading.run())
    await files.is_tried_again.wait()
    assert loading.problem == "wanted is not loaded: The hub is away."
    task.cancel()
