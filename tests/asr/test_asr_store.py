"""What a quick look at a model's folder shows, and how a model comes from a hub that does not do as it should."""

import itertools
import os
import resource
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from services.asr.models import store, weights
from services.asr.models.catalog import EMBEDDED, Model, Speed
from services.common.hub import HubError
from tests.hub import Hub, hub

# In the middle of the weights' bytes.
HALF = 3_000_000
SMALL = Model("small", "Small", ("en",), Speed.FAST, "", "Systran/faster-whisper-small")


@pytest.fixture
def folder(tmp_path: Path, untrained: Path) -> Path:
    """A folder with a whole model, the test's own."""
    return Path(shutil.copytree(untrained, tmp_path / "model"))


@pytest.fixture
def model(folder: Path) -> Model:
    return Model("mine", "Mine", ("en",), Speed.FAST, "", folder=folder)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where what is pulled is kept."""
    return tmp_path / "home"


@pytest.fixture
def mirror(home: Path, untrained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub of this process; huggingface_hub read what the environment says long ago."""
    with hub({SMALL.repository: untrained}) as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
        yield running


def pull_fails() -> str:
    """Return the sentence that it fails with."""
    with pytest.raises(HubError) as caught:
        store.pull(SMALL)
    assert store.find(SMALL) is None
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_whole_model_is_found(model: Model, folder: Path) -> None:
    assert store.find(model) == store.files(model) == folder
    assert store.verify(model) == []
    assert store.weights_mib(folder) == (folder / "model.bin").stat().st_size / 2**20


def test_the_embedded_model_has_no_files_of_its_own() -> None:
    assert store.find(EMBEDDED) is None
    assert store.verify(EMBEDDED) == []


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.bin"])
def test_a_missing_file_is_named(name: str, model: Model, folder: Path) -> None:
    (folder / name).unlink()
    assert store.problem(folder) == f"There is no {name}."
    assert store.verify(model) == [f"There is no {name}."]
    assert store.find(model) is None
    with pytest.raises(ValueError, match=name):
        store.files(model)


def test_a_link_that_leads_nowhere_is_a_missing_file(folder: Path) -> None:
    (folder / "model.bin").unlink()
    (folder / "model.bin").symlink_to("../blobs/none")
    assert store.problem(folder) == "There is no model.bin."


def test_a_vocabulary_may_be_of_either_kind(folder: Path) -> None:
    (folder / "vocabulary.json").rename(folder / "vocabulary.txt")
    assert store.problem(folder) is None
    (folder / "vocabulary.txt").unlink()
    assert store.problem(folder) == "There is no vocabulary.json or vocabulary.txt."


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocabulary.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"<html>"])
def test_a_file_that_is_not_json_is_named(name: str, content: bytes, folder: Path) -> None:
    (folder / name).write_bytes(content)
    assert store.problem(folder) == f"{name} is not JSON."


def test_empty_weights_are_named(folder: Path) -> None:
    os.truncate(folder / "model.bin", 0)
    assert store.problem(folder) == "model.bin is empty."


@pytest.mark.parametrize("length", [1, 3, 5, 10, 20, 100, 5_000, HALF, -1])
def test_weights_that_are_cut_off_are_named(length: int, folder: Path) -> None:
    path = folder / "model.bin"
    os.truncate(path, length if length > 0 else path.stat().st_size + length)
    assert store.problem(folder) == "model.bin is cut off."


def test_weights_that_go_on_are_named(folder: Path) -> None:
    with (folder / "model.bin").open("ab") as file:
        file.write(b"\0")
    assert store.problem(folder) == "model.bin goes on after its end."


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", id="git's pointer to it"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="a PyTorch model"),
        pytest.param(bytes(100), id="zeros"),
        pytest.param(struct.pack("<IH16sIIxx", 6, 16, b"TransformerSpec\0", 7, 0), id="CTranslate2's for translation"),
        pytest.param(struct.pack("<IH12sII", 2, 12, b"WhisperSpec\0", 3, 0), id="a format before the first Whisper"),
    ],
)
def test_weights_of_something_else_are_named(content: bytes, folder: Path) -> None:
    (folder / "model.bin").write_bytes(content)
    assert store.problem(folder) == "model.bin is not a Whisper model of CTranslate2."


def test_a_later_format_is_left_to_what_loads_it(folder: Path) -> None:
    with (folder / "model.bin").open("r+b") as file:
        file.write(struct.pack("<I", 7))
    os.truncate(folder / "model.bin", HALF)
    assert store.problem(folder) is None


def test_sound_cut_into_other_bands_than_the_weights_hear_is_named(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"feature_size": 128}')
    assert store.problem(folder) == (
        "There is no preprocessor_config.json with a feature_size of 80, which model.bin needs."
    )
    (folder / "preprocessor_config.json").unlink()  # 80 is what is taken then
    assert store.problem(folder) is None


def test_a_folder_that_is_gone_is_a_sentence(folder: Path) -> None:
    shutil.rmtree(folder)
    assert store.problem(folder) == "There is no config.json."


def test_the_memory_of_weights_goes_by_what_is_computed_with(folder: Path) -> None:
    read = weights.read(folder / "model.bin")
    assert read.mels == 80
    # They are stored in 16 bits, and beside them little but names.
    assert read.loaded_mib("float16", 0) == pytest.approx(store.weights_mib(folder), rel=0.01)
    sizes = [read.loaded_mib(kind, 0) for kind in ("int8_float16", "float16", "float32")]
    assert [b / a for a, b in itertools.pairwise(sizes)] == [2.0, 2.0]
    # Each utterance that is decoded at once: keys and values, of a layer, 1,500 states and 64 numbers.
    assert read.loaded_mib("float32", 3) - sizes[-1] == pytest.approx(3 * 2 * 1500 * 64 * 4 / 2**20)


def test_a_look_at_the_weights_reads_little_of_them(folder: Path) -> None:
    began = time.thread_time()
    weights.read(folder / "model.bin")
    assert time.thread_time() - began < 0.1


def test_what_is_here_and_whole_needs_no_hub(mirror: Hub) -> None:
    folder = store.pull(SMALL)
    assert store.find(SMALL) == folder
    mirror.stop()
    assert store.pull(SMALL) == folder


def test_a_token_opens_the_hub_and_is_not_shown_to_the_storage(mirror: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    store.pull(SMALL)
    assert {request.path.startswith("/storage/"): request.authorization for request in mirror.requests} == {
        False: "Bearer hf_secret",
        True: "",
    }


def test_a_connection_that_is_cut_is_made_again_and_goes_on_where_it_was(mirror: Hub) -> None:
    mirror.faults.cut_after_bytes, mirror.faults.cuts = HALF, 1
    store.pull(SMALL)
    assert mirror.ranges() == ["", f"bytes={HALF}-"]


def test_a_mirror_that_gives_no_parts_of_files_gives_the_whole_again(mirror: Hub) -> None:
    mirror.faults.cut_after_bytes, mirror.faults.cuts, mirror.faults.ignore_ranges = HALF, 1, True
    store.pull(SMALL)
    assert store.verify(SMALL) == []


def test_a_hub_that_says_nothing_is_not_waited_for(mirror: Hub) -> None:
    mirror.faults.stall = True
    assert pull_fails() == f"{mirror.url} does not answer."


def test_a_hub_that_falls_silent_is_asked_again_a_few_times(mirror: Hub) -> None:
    mirror.faults.stall_after_bytes = HALF
    assert pull_fails() == f"{mirror.url} does not answer."
    assert mirror.ranges() == ["", *[f"bytes={HALF}-"] * 2]


@pytest.mark.parametrize(
    ("status", "on", "sentence"),
    [
        (500, "/api/", "answered 500 when asked for Systran/faster-whisper-small"),
        (403, "model.bin", "HF_TOKEN does not open Systran/faster-whisper-small"),
        (404, "/storage/", "There is no model.bin"),
        (200, "/api/", "does not answer as a hub does"),
    ],
)
def test_what_a_hub_refuses_is_a_sentence(status: int, on: str, sentence: str, mirror: Hub) -> None:
    mirror.faults.status, mirror.faults.on = status, on
    assert sentence in pull_fails()


def test_a_repository_that_does_not_exist_is_a_sentence(mirror: Hub) -> None:
    del mirror.repositories[SMALL.repository]
    assert "There is no Systran/faster-whisper-small" in pull_fails()


def test_a_storage_that_is_down_is_asked_again_a_few_times(mirror: Hub) -> None:
    mirror.faults.status, mirror.faults.on = 503, "/storage/"
    assert "answered 503 when asked for model.bin" in pull_fails()
    assert len(mirror.ranges()) == 3


def test_a_repository_of_something_else_is_a_sentence(mirror: Hub, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    mirror.repositories[SMALL.repository] = folder
    assert pull_fails().endswith("is not a model that can be loaded: There is no tokenizer.json.")


def test_a_disk_without_room_is_a_sentence_before_anything_is_brought(mirror: Hub) -> None:
    mirror.faults.claimed_bytes = 10**15
    assert "There is no room for another 953674316 MiB" in pull_fails()
    assert mirror.ranges() == []


def test_a_disk_that_becomes_full_is_a_sentence_and_what_came_is_kept(mirror: Hub) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, most))
    try:
        assert "cannot be written: File too large." in pull_fails()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    store.pull(SMALL)
    assert mirror.ranges() == ["", f"bytes={HALF}-"]


def test_a_place_that_cannot_be_written_to_is_a_sentence(mirror: Hub, home: Path) -> None:
    home.write_text("a file")
    assert str(home) in pull_fails()


def test_what_comes_damaged_is_thrown_away(mirror: Hub) -> None:
    mirror.faults.corrupt = True
    assert "model.bin came damaged" in pull_fails()
    mirror.faults.corrupt = False
    store.pull(SMALL)
    assert mirror.ranges() == ["", ""]


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_what_was_damaged_here_is_found_and_brought_anew_alone(name: str, mirror: Hub, untrained: Path) -> None:
    damaged = store.pull(SMALL) / name
    content = bytearray(damaged.read_bytes())
    content[-2] ^= 1
    damaged.write_bytes(content)
    assert store.verify(SMALL) in ([f"{name} is damaged."], [f"{name} is not JSON."])
    mirror.requests.clear()
    assert store.pull(SMALL) == damaged.parent
    assert damaged.read_bytes() == (untrained / name).read_bytes()
    assert {Path(request.path).name for request in mirror.requests if request.method == "GET"} == {
        Path(SMALL.repository).name,
        name,
    }


def test_what_is_cut_off_here_is_found_and_brought_anew(mirror: Hub) -> None:
    folder = store.pull(SMALL)
    os.truncate(folder / "model.bin", HALF)
    assert store.find(SMALL) is None
    assert store.pull(SMALL) == store.find(SMALL) == folder
