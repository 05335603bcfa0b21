"""Words: error rate on read speech, words invented where nobody speaks, and times of spoken digits."""

from statistics import median

import numpy as np
from whisper_normalizer.english import EnglishTextNormalizer

from tests.bench.alone import engine_alone
from tests.bench.data import BenchData, decode, wav_bytes
from tests.bench.figures import Figure, Measured, Target
from tests.bench.plan import Plan
from tests.bench.scoring import TimeError, digit_time_errors, plain_words, word_error_rate
from tests.bench.system import EMBEDDED_MODEL, System

_WORD_TIME_MS = 60.0
_MODELS = (EMBEDDED_MODEL, "base")


def measure_wer(system: System, plan: Plan, data: BenchData) -> Measured:
    """Transcribe `en_read` (trust A and B) through the edge, and by the engine alone on faster-whisper's chunks."""
    plan.say("words: read speech")
    entries = data.labelled("en_read", ("A", "B"))
    references = [entry.text for entry in entries]
    recordings = {entry.path.name: decode(entry.path) for entry in entries}
    alone = engine_alone("asr-stock", recordings)
    same_chunks = engine_alone("asr", recordings)
    chain = [system.transcribe(entry.path.read_bytes(), diarize=False).body["text"] for entry in entries]
    normalize = EnglishTextNormalizer()
    alone_wer, same_wer = (
        word_error_rate(references, [results[entry.path.name].text for entry in entries], normalize)
        for results in (alone, same_chunks)
    )
    figure = Figure(
        "WER, en_read",
        word_error_rate(references, chain, normalize),
        target=Target(alone_wer),
        alone=alone_wer,
        note=f"{len(entries)} files; Whisper's English normalizer; alone on the service's own chunks {same_wer:.3f}",
    )
    texts = {
        entry.path.name: {"reference": entry.text, "chain": text, "alone": alone[entry.path.name].text}
        for entry, text in zip(entries, chain, strict=True)
    }
    return Measured([figure], {"wer_texts": texts})


def measure_nospeech(system: System, plan: Plan, data: BenchData) -> Measured:
    """Count the words found in recordings in which nobody speaks."""
    plan.say("words: recordings without speech")
    entries = data.labelled("nospeech", ("A", "B"))
    alone = engine_alone("asr-stock", {entry.path.name: decode(entry.path) for entry in entries})
    alone_invented = sum(len(plain_words(result.text)) for result in alone.values())
    figures = []
    for model in _MODELS:
        texts = {
            entry.path.name: system.transcribe(entry.path.read_bytes(), diarize=False, model=model).body["text"]
            for entry in entries
        }
        invented = sum(len(plain_words(text)) for text in texts.values())
        note = "; ".join(f"{name}: {text}" for name, text in texts.items() if text)
        figures.append(Figure(f"words invented, nospeech, {model}", invented, "words", Target(0), alone_invented, note))
    return Measured(figures)


def measure_times(system: System, plan: Plan, data: BenchData) -> Measured:
    """Compare the times of correctly recognized digits with the energy edges of the clips they were joined from."""
    recordings = data.digit_recordings(1 if plan.quick else 5)
    spoken = sum(len(recording.digits) for recording in recordings)
    figures: list[Figure] = []
    series = {}
    for model in _MODELS:
        errors: list[TimeError] = []
        segments = estimated = 0
        for recording in recordings:
            plan.say(f"words: times of digits by {model}, {recording.name}")
            answer = system.transcribe(wav_bytes(recording.samples), diarize=False, model=model)
            errors += digit_time_errors(recording.digits, answer.words)
            segments += len(answer.body["segments"])
            estimated += sum("timing" in segment for segment in answer.body["segments"])
        found = f"{len(errors)} correct words of {spoken} digits"
        note = f"{found}; edges: within 30 dB of the clip's loudest 10 ms"
        onsets = [abs(error.onset_s) for error in errors]
        p95 = f"; p95 {1000 * float(np.quantile(onsets, 0.95)):.0f} ms" if onsets else ""
        aligned = [error for error in errors if not error.estimated]
        target = Target(_WORD_TIME_MS)
        figures += [
            Figure(
                f"word onset error, digits, {model}",
                _median_ms([error.onset_s for error in errors]),
                "ms",
                target,
                note=note + p95,
            ),
            Figure(f"word end error, digits, {model}", _median_ms([error.end_s for error in errors]), "ms", target),
            Figure(f"word onset error, aligned only, {model}", _median_ms([error.onset_s for error in aligned]), "ms"),
            Figure(f"word end error, aligned only, {model}", _median_ms([error.end_s for error in aligned]), "ms"),
            Figure(f"estimated segments, digits, {model}", 100 * estimated / segments if segments else None, "%"),
        ]
        series[model] = {"onset_s": [e.onset_s for e in errors], "end_s": [e.end_s for e in errors]}
    return Measured(figures, {"word_time_errors": series[EMBEDDED_MODEL], "word_time_errors_base": series["base"]})


def _median_ms(errors_s: list[float]) -> float | None:
    return 1000 * median(abs(error) for error in errors_s) if errors_s else None
