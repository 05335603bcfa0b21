"""One transcription through fake services: what is asked of them, and what becomes of their answers and faults."""

import asyncio
import json

import aiohttp
import pytest
from stt.asr.v1 import asr_pb2
from stt.common.v1 import common_pb2

from services.common.errors import Reason, SttError
from tests.edge.conftest import Edge, FakeServices, StartEdge, form_of, silence
from tests.edge.fakes import segment

TWO_TURNS = [(0.0, 1.0, 1), (2.0, 3.0, 2)]
CHINESE = [segment(0.0, "+今天", "+天气", "+很好。"), segment(2.0, "+我们", "+走吧。")]


@pytest.fixture
def dialogue(fakes: FakeServices) -> FakeServices:
    """Somebody asks and somebody else answers."""
    fakes.asr.segments = [segment(0.0, "Are", "you?"), segment(2.0, "I", "am.")]
    fakes.diarize.turns = TWO_TURNS
    return fakes


async def test_words_are_joined_to_speakers(edge: Edge, dialogue: FakeServices, quiet: bytes) -> None:
    answer = (await edge.transcribe(quiet)).json
    assert answer["text"] == "Are you? I am."
    assert [s["speaker"] for s in answer["segments"]] == ["Speaker 1", "Speaker 2"]
    assert answer["speakers"] == ["Speaker 1", "Speaker 2"]
    assert (answer["language"], answer["duration"], answer["model"], answer["warnings"]) == ("en", 1.0, "fake-en", [])


@pytest.mark.parametrize(
    ("response_format", "document"),
    [
        ("txt", "今天天气很好。我们走吧。"),
        (
            "srt",
            "1\n00:00:00,000 --> 00:00:01,000\n今天天气很好。\n\n2\n00:00:02,000 --> 00:00:03,000\n我们走吧。\n",
        ),
        (
            "vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\n今天天气很好。\n\n00:00:02.000 --> 00:00:03.000\n我们走吧。\n",
        ),
    ],
)
async def test_a_chinese_recording_is_a_document_without_spaces(
    edge: Edge, fakes: FakeServices, response_format: str, document: str
) -> None:
    fakes.asr.segments = CHINESE
    assert (await edge.transcribe(silence(4), response_format=response_format)).body.decode() == document


async def test_a_chinese_recording_is_json_without_spaces(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.segments = CHINESE
    answer = (await edge.transcribe(quiet)).json
    assert answer["text"] == "今天天气很好。我们走吧。"
    assert [s["text"] for s in answer["segments"]] == ["今天天气很好。", "我们走吧。"]
    assert [w["word"] for s in answer["segments"] for w in s["words"]] == ["今天", "天气", "很好", "我们", "走吧"]


async def test_a_chinese_segment_of_two_speakers_is_cut_without_spaces(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.segments = [segment(0.0, "+你", "+好吗？", "+我", "+很好。", word_s=0.5)]
    fakes.diarize.turns = [(0.0, 1.0, 1), (1.0, 2.0, 2)]
    answer = (await edge.transcribe(quiet)).json
    assert answer["text"] == "你好吗？我很好。"
    assert [(s["speaker"], s["text"]) for s in answer["segments"]] == [
        ("Speaker 1", "你好吗？"),
        ("Speaker 2", "我很好。"),
    ]


async def test_what_is_asked_for_reaches_the_services(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    await edge.transcribe(quiet, model="small", language="PT-br", speakers="2")
    assert (fakes.asr.config.model, fakes.asr.config.language) == ("small", "pt")
    assert (fakes.diarize.config.speakers, fakes.diarize.config.expected_duration_s) == (2, 1.0)


async def test_models_and_languages_have_other_names_too(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    answer = await edge.transcribe(quiet, model="openai/whisper-SMALL", language="nb-NO", languages="Norwegian,spa")
    assert (answer.status, answer.json["warnings"]) == (200, [])
    config = fakes.asr.config
    assert (config.model, config.language, list(config.languages)) == ("small", "no", ["no", "es"])


async def test_what_biases_recognition_reaches_it(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fields = {"prompt": "Nagg.\n\tNell.", "keywords": "Hamm,Clov", "task": "Translate", "languages": "es,fr"}
    assert (await edge.transcribe(quiet, **fields)).json["warnings"] == []
    config = fakes.asr.config
    assert (config.prompt, list(config.keywords)) == ("Nagg.\n\tNell.", ["Hamm", "Clov"])
    assert (config.task, list(config.languages)) == (asr_pb2.TASK_TRANSLATE, ["es", "fr"])
    assert not config.HasField("live")


async def test_by_default_recognition_chooses_the_model_and_the_language(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    await edge.transcribe(quiet)
    assert (fakes.asr.config.model, fakes.asr.config.language) == ("", "auto")
    assert fakes.asr.config.task == asr_pb2.TASK_TRANSCRIBE
    assert fakes.diarize.config.speakers == 0


@pytest.mark.parametrize("no", ["false", "0", "No", "off"])
async def test_without_diarization_nobody_is_named_and_nobody_asked(
    edge: Edge, dialogue: FakeServices, quiet: bytes, no: str
) -> None:
    answer = (await edge.transcribe(quiet, diarize=no)).json
    assert all("speaker" not in s for s in answer["segments"])
    assert (answer["speakers"], answer["warnings"]) == ([], [])
    assert not dialogue.diarize.config.expected_duration_s


async def test_silence_is_a_transcript_without_segments(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.segments, fakes.diarize.turns = [], []
    answer = await edge.transcribe(quiet)
    assert answer.status == 200
    assert (answer.json["text"], answer.json["segments"], answer.json["speakers"]) == ("", [], [])
    assert answer.json["warnings"] == []


async def test_segments_tell_their_language_where_there_is_more_than_one(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    english = segment(0.0, "today?", language="en")
    chinese = segment(1.0, "+今天。", "+天氣", word_s=1.0, language="zh")
    fakes.asr.segments = [english]
    assert "language" not in (await edge.transcribe(quiet)).json["segments"][0]
    fakes.asr.segments = [english, chinese]
    fakes.diarize.turns = [(0.0, 2.0, 1), (2.0, 3.0, 2)]
    answer = (await edge.transcribe(quiet)).json
    assert [(s["speaker"], s["language"], s["text"]) for s in answer["segments"]] == [
        ("Speaker 1", "en", "today?"),
        ("Speaker 1", "zh", "今天。"),
        ("Speaker 2", "zh", "天氣"),
    ]
    assert answer["text"] == "today? 今天。天氣"


async def test_a_word_tells_its_confidence(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.segments[0].words[1].confidence = 0.12345
    (said,) = (await edge.transcribe(quiet)).json["segments"]
    assert [word["confidence"] for word in said["words"]] == [0.9, 0.123]


async def test_warnings_of_the_services_reach_the_caller(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.warnings = ["A small model answered."]
    assert (await edge.transcribe(quiet)).json["warnings"] == ["A small model answered."]


@pytest.mark.parametrize("wanted", ["1", "3"])
async def test_another_number_of_speakers_than_asked_for_is_a_warning(
    edge: Edge, dialogue: FakeServices, quiet: bytes, wanted: str
) -> None:
    answer = await edge.transcribe(quiet, speakers=wanted)
    assert answer.status == 200
    assert answer.json["warnings"] == [f"{wanted} speakers were asked for, 2 were found."]


async def test_a_warning_counts_the_speakers_that_the_answer_names(
    edge: Edge, dialogue: FakeServices, quiet: bytes
) -> None:
    dialogue.diarize.turns.append((50.0, 60.0, 9))  # said nothing that was understood
    dialogue.diarize.warnings = [
        common_pb2.Warning(reason="FEWER_SPEAKERS", message="4 speakers were asked for; 3 could be told apart."),
        common_pb2.Warning(reason="FALLBACK_MODEL", message="Another model answered."),
    ]
    answer = (await edge.transcribe(quiet, speakers="4")).json
    assert answer["speakers"] == ["Speaker 1", "Speaker 2"]
    assert answer["warnings"] == ["Another model answered.", "4 speakers were asked for, 2 were found."]


async def test_estimated_times_are_marked(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.asr.segments[0].timing = asr_pb2.TIMING_ESTIMATED
    assert (await edge.transcribe(quiet)).json["segments"][0]["timing"] == "estimated"


async def assert_transcript_without_speakers(edge: Edge, quiet: bytes) -> None:
    answer = await edge.transcribe(quiet)
    assert answer.status == 200
    assert answer.json["text"] == "Are you? I am."
    assert all("speaker" not in s for s in answer.json["segments"])
    assert answer.json["speakers"] == []
    (warning,) = answer.json["warnings"]
    assert warning.startswith("No speakers are named: ")


async def test_the_transcript_comes_while_diarization_is_down(
    dialogue: FakeServices, start_edge: StartEdge, quiet: bytes
) -> None:
    edge = await start_edge(**{**dialogue.addresses, "diarize_address": "127.0.0.1:1"})
    await assert_transcript_without_speakers(edge, quiet)


async def test_the_transcript_comes_though_diarization_fails(edge: Edge, dialogue: FakeServices, quiet: bytes) -> None:
    dialogue.diarize.error = SttError(Reason.INTERNAL, "Something broke.")
    await assert_transcript_without_speakers(edge, quiet)


async def test_the_transcript_comes_though_diarization_finds_nobody(
    edge: Edge, dialogue: FakeServices, quiet: bytes
) -> None:
    dialogue.diarize.turns = []
    await assert_transcript_without_speakers(edge, quiet)


async def test_the_transcript_does_not_wait_longer_for_diarization_than_its_deadline(
    dialogue: FakeServices, start_edge: StartEdge, quiet: bytes
) -> None:
    edge = await start_edge(diarize_deadline_base_s=0.3, diarize_deadline_factor=0, **dialogue.addresses)
    dialogue.diarize.proceed.clear()
    await assert_transcript_without_speakers(edge, quiet)
    await dialogue.diarize.ended.wait()


async def test_diarization_that_is_full_is_asked_again(edge: Edge, dialogue: FakeServices, quiet: bytes) -> None:
    dialogue.diarize.refusals = [SttError(Reason.OVERLOADED, "Full.", retry_after_s=0.05) for _ in range(2)]
    answer = (await edge.transcribe(quiet)).json
    assert (answer["speakers"], answer["warnings"]) == (["Speaker 1", "Speaker 2"], [])
    assert dialogue.diarize.refusals == []


async def test_diarization_that_stays_full_is_gone_without(
    dialogue: FakeServices, start_edge: StartEdge, quiet: bytes
) -> None:
    edge = await start_edge(diarize_deadline_base_s=0.3, diarize_deadline_factor=0, **dialogue.addresses)
    dialogue.diarize.refusals = [SttError(Reason.OVERLOADED, "Full.", retry_after_s=0.2) for _ in range(9)]
    await assert_transcript_without_speakers(edge, quiet)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.INVALID_REQUEST, 400),
        (Reason.UNSUPPORTED_LANGUAGE, 400),
        (Reason.MODEL_UNAVAILABLE, 503),
        (Reason.LANGUAGE_UNAVAILABLE, 503),
        (Reason.OVERLOADED, 503),
    ],
)
async def test_what_recognition_refuses_is_an_http_status(
    edge: Edge, fakes: FakeServices, quiet: bytes, reason: Reason, status: int
) -> None:
    fakes.asr.refusal = SttError(reason, "Not like this.", retry_after_s=7 if status == 503 else None)
    answer = await edge.transcribe(quiet)
    assert (answer.status, answer.json["error"], answer.json["code"]) == (status, "Not like this.", reason)
    assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)


async def test_recognition_that_fails_half_way_is_an_http_status_too(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.error = SttError(Reason.SHUTTING_DOWN, "The service is going away.")
    answer = await edge.transcribe(quiet)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0


async def test_recognition_past_its_deadline_is_a_503(fakes: FakeServices, start_edge: StartEdge, quiet: bytes) -> None:
    edge = await start_edge(asr_deadline_base_s=0.3, asr_deadline_factor=0, **fakes.addresses)
    fakes.asr.proceed.clear()
    answer = await edge.transcribe(quiet)
    assert (answer.status, answer.json["code"]) == (503, "DEADLINE_EXCEEDED")


async def test_recognition_that_is_down_is_a_503_with_retry_after(start_edge: StartEdge, quiet: bytes) -> None:
    edge = await start_edge(asr_address="127.0.0.1:1")
    answer = await edge.transcribe(quiet)
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in answer.body.decode()


async def test_a_caller_who_hangs_up_ends_both_rpcs_within_a_second(
    edge: Edge, fakes: FakeServices, quiet: bytes
) -> None:
    fakes.asr.proceed.clear()
    fakes.diarize.proceed.clear()
    request = asyncio.create_task(edge.transcribe(quiet))
    await fakes.asr.said.wait()
    request.cancel()
    await asyncio.wait({request})
    async with asyncio.timeout(1):
        await fakes.asr.ended.wait()
        await fakes.diarize.ended.wait()


async def test_a_failure_of_recognition_ends_diarization(edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
    fakes.diarize.proceed.clear()
    fakes.asr.error = SttError(Reason.INTERNAL, "Broken.")
    assert (await edge.transcribe(quiet)).status == 500
    async with asyncio.timeout(1):
        await fakes.diarize.ended.wait()


class TestLongWaits:
    """An answer that takes long shows that it is coming."""

    @pytest.fixture
    async def slow(self, fakes: FakeServices, start_edge: StartEdge) -> Edge:
        fakes.asr.proceed.clear()
        return await start_edge(heartbeat_after_s=0.2, heartbeat_every_s=0.05, **fakes.addresses)

    async def test_json_begins_with_spaces_and_stays_json(self, slow: Edge, fakes: FakeServices, quiet: bytes) -> None:
        async with slow.http.post(slow.url + "/v1/transcribe", data=form_of(quiet)) as response:
            assert response.status == 200
            assert await response.content.readexactly(3) == b"   "
            fakes.asr.proceed.set()
            assert (await response.json())["text"] == "Hello, world."

    async def test_the_sdks_wrapped_document_does_too(self, slow: Edge, fakes: FakeServices, quiet: bytes) -> None:
        form, headers = form_of(quiet, response_format="srt"), {"User-Agent": "stt-ai-python/0.1.0"}
        async with slow.http.post(slow.url + "/v1/transcribe", data=form, headers=headers) as response:
            assert await response.content.readexactly(1) == b" "
            fakes.asr.proceed.set()
            assert (await response.json())["text"].startswith("1\n00:00:00,000 --> ")

    async def test_a_failure_after_that_cuts_the_connection(
        self, slow: Edge, fakes: FakeServices, quiet: bytes
    ) -> None:
        fakes.asr.error = SttError(Reason.INTERNAL, "Broken.")
        async with slow.http.post(slow.url + "/v1/transcribe", data=form_of(quiet)) as response:
            await response.content.readexactly(1)
            fakes.asr.proceed.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    async def test_a_document_is_sent_only_when_it_is_whole(
        self, slow: Edge, fakes: FakeServices, quiet: bytes
    ) -> None:
        request = asyncio.create_task(slow.transcribe(quiet, response_format="vtt"))
        done, _ = await asyncio.wait({request}, timeout=0.5)
        assert not done
        fakes.asr.proceed.set()
        assert (await request).body.startswith(b"WEBVTT\n")

    async def test_a_stream_of_events_gets_comments(self, slow: Edge, fakes: FakeServices, quiet: bytes) -> None:
        headers = {"Accept": "text/event-stream"}
        async with slow.http.post(slow.url + "/v1/transcribe", data=form_of(quiet), headers=headers) as response:
            while await response.content.readline() != b":\n":
                pass
            fakes.asr.proceed.set()
            assert b"event: result" in await response.read()


async def events_of(response: aiohttp.ClientResponse) -> list[str]:
    return [line.decode().split()[1] for line in (await response.read()).split(b"\n") if line.startswith(b"event:")]


class TestEvents:
    """`Accept: text/event-stream`."""

    HEADERS = {"Accept": "text/event-stream"}  # noqa: RUF012

    async def test_segments_come_before_the_work_is_over(
        self, edge: Edge, dialogue: FakeServices, quiet: bytes
    ) -> None:
        dialogue.asr.proceed.clear()
        form = form_of(quiet)
        async with edge.http.post(edge.url + "/v1/transcribe", data=form, headers=self.HEADERS) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            seen = 0
            while seen < 2:
                seen += await response.content.readline() == b"event: segment\n"
            dialogue.asr.proceed.set()
            assert (await events_of(response))[-1] == "result"

    async def test_a_segment_tells_its_language_before_it_is_known_whether_there_are_more(
        self, edge: Edge, fakes: FakeServices, quiet: bytes
    ) -> None:
        fakes.asr.segments = [segment(0.0, "Hola.", language="es")]
        answer = await edge.transcribe(quiet, headers=self.HEADERS)
        (told,) = [event for event in answer.body.decode().split("\n\n") if event.startswith("event: segment\n")]
        assert json.loads(told.partition("data: ")[2])["language"] == "es"

    async def test_the_result_is_the_json_answer(self, edge: Edge, dialogue: FakeServices, quiet: bytes) -> None:
        plain = (await edge.transcribe(quiet)).json
        answer = await edge.transcribe(quiet, headers=self.HEADERS)
        last = answer.body.decode().strip().split("\n\n")[-1]
        name, data = last.split("\n")
        assert name == "event: result"
        assert json.loads(data.removeprefix("data: ")) == plain

    async def test_a_failure_on_the_way_is_an_error_event(self, edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
        fakes.asr.error = SttError(Reason.OVERLOADED, "Too much.")
        answer = await edge.transcribe(quiet, headers=self.HEADERS)
        assert answer.status == 200
        last = answer.body.decode().strip().split("\n\n")[-1]
        assert last.startswith('event: error\ndata: {"error": "Too much.", "code": "OVERLOADED"')

    async def test_what_is_known_to_be_wrong_before_is_an_http_status(
        self, edge: Edge, fakes: FakeServices, quiet: bytes
    ) -> None:
        assert (await edge.transcribe(b"no media", headers=self.HEADERS)).status == 400
        fakes.asr.refusal = SttError(Reason.MODEL_UNAVAILABLE, "Not here.")
        fakes.diarize.proceed.clear()
        assert (await edge.transcribe(quiet, headers=self.HEADERS)).status == 503

    async def test_a_caller_who_hangs_up_ends_the_rpcs(self, edge: Edge, fakes: FakeServices, quiet: bytes) -> None:
        fakes.asr.proceed.clear()
        form = form_of(quiet)
        async with edge.http.post(edge.url + "/v1/transcribe", data=form, headers=self.HEADERS) as response:
            await response.content.readline()
            response.close()
        async with asyncio.timeout(1):
            await fakes.asr.ended.wait()


async def test_a_caller_who_never_reads_is_cut_off(fakes: FakeServices, start_edge: StartEdge, quiet: bytes) -> None:
    edge = await start_edge(write_timeout_s=0.3, **fakes.addresses)
    fakes.asr.segments = [segment(float(i), "x" * 50_000) for i in range(600)]  # 30 MB: more than sockets hold
    headers = {"Accept": "text/event-stream"}
    async with edge.http.post(edge.url + "/v1/transcribe", data=form_of(quiet), headers=headers) as response:
        async with asyncio.timeout(5):
            await fakes.asr.ended.wait()
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_caller_who_reads_slowly_gets_all_of_a_long_answer(
    fakes: FakeServices, start_edge: StartEdge, quiet: bytes
) -> None:
    edge = await start_edge(write_timeout_s=0.5, **fakes.addresses)
    fakes.asr.segments = [segment(float(i), "x" * 50_000) for i in range(400)]
    async with edge.http.post(edge.url + "/v1/transcribe", data=form_of(quiet, diarize="false")) as response:
        received = 0
        while piece := await response.content.read(1 << 20):
            received += len(piece)
            await asyncio.sleep(0.03)  # this slowness is the test
        assert received == response.content_length


async def test_two_hours_arrive_in_small_messages_and_come_back_whole(
    edge: Edge, fakes: FakeServices, two_hours: bytes
) -> None:
    fakes.asr.segments = [segment(float(s), *["word."] * 10, word_s=0.09) for s in range(0, 7200, 2)]
    fakes.diarize.turns = [(float(s), s + 9.5, s // 10 % 3 + 1) for s in range(0, 7200, 10)]
    answer = (await edge.transcribe(two_hours)).json
    assert answer["duration"] == 7200.0
    assert len(answer["segments"]) == 3600
    assert answer["speakers"] == ["Speaker 1", "Speaker 2", "Speaker 3"]
    assert 0 < fakes.asr.largest_bytes <= 65_536
