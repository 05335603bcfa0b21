"""The models of the public API: the contract's four, as the vendor names them, then what else recognition lists."""

from collections.abc import Sequence

from services.edge.engine import Model

CONTRACT_MODELS = (
    Model(
        "large-v3-turbo", "Whisper Large V3 Turbo", 99, "fast", "Nearly as accurate as Large V3, much faster.", False
    ),
    Model("large-v3", "Whisper Large V3", 99, "standard", "The most accurate, and the slowest.", False),
    Model("medium", "Whisper Medium", 99, "fast", "A balance of speed and accuracy.", False),
    Model(
        "small", "Whisper Small", 99, "very_fast", "The fastest of the Whisper models, and the least accurate.", False
    ),
)


def public_models(served: Sequence[Model]) -> list[Model]:
    """Return the contract's models first, in its order, names and speeds, then the others that are `served`."""
    available = {model.id for model in served if model.available}
    known = {model.id for model in CONTRACT_MODELS}
    first = [
        Model(m.id, m.name, m.languages, m.speed, m.description, available=m.id in available) for m in CONTRACT_MODELS
    ]
    return first + [model for model in served if model.id not in known]
