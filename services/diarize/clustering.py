"""Group the voices of all windows into speakers, over the recording as a whole; networks and times are not here.

The steps and their constants are those of pyannote's community-1 pipeline: agglomerative clustering for a start, then
VBx (Landini et al. 2022, https://arxiv.org/abs/2012.14952) in the space of a PLDA model, then every voice goes to the
nearest speaker, two voices of one window never to the same.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import eigh
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp, softmax

_THRESHOLD = 0.6
_FA = 0.07
_FB = 0.8
_ITERATIONS = 20
_SMOOTHING = 7.0
_MIN_PRIOR = 1e-7
_MIN_SPEECH_S = 1.0
_LINKAGE_MAX = 2000
"""Most points in one linkage, whose distances take 16 MB; more are clustered in pieces first."""

Floats = npt.NDArray[np.float64]
Embeddings = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plda:
    """The x-vector transform and the diagonalized PLDA model; build it with `plda`."""

    mean1: Floats
    mean2: Floats
    lda: Floats
    mu: Floats
    transform: Floats
    psi: Floats

    def project(self, embeddings: Embeddings) -> Floats:
        """Bring embeddings (n, 256) to where speakers differ by `psi` and one speaker's voices by 1: (n, 128)."""
        wide, narrow = self.lda.shape
        x = np.sqrt(wide) * _unit(embeddings - self.mean1)
        x = np.sqrt(narrow) * _unit(x @ self.lda - self.mean2)
        projected: Floats = (x - self.mu) @ self.transform.T
        return projected


def plda(mean1: Floats, mean2: Floats, lda: Floats, mu: Floats, transform: Floats, psi: Floats) -> Plda:
    """Diagonalize a PLDA model as Kaldi stores it (within- and between-class covariance at once)."""
    within = np.linalg.inv(transform.T @ transform)
    between = np.linalg.inv((transform.T / psi) @ transform)
    values, vectors = eigh(between, within)
    return Plda(mean1, mean2, lda, mu, vectors.T[::-1], values[::-1])


def cluster(embeddings: Embeddings, speech_s: Floats, windows: Ints, speakers: int, model: Plda) -> Ints:
    """Name the speaker of every voice: (n, 256), (n,), (n,) -> (n,) of 0 .. k-1.

    `speech_s` is how long a voice was heard, `windows` which window it is of; `speakers` is the number to find, 0 to
    find it out. There are fewer than `speakers` only where there are fewer voices.
    """
    if len(embeddings) == 0:
        return np.zeros(0, np.int64)
    long = speech_s >= _MIN_SPEECH_S
    if long.sum() < max(speakers, 1):
        long = np.ones(len(embeddings), bool)
    points = _unit(embeddings[long])
    groups = _vbx(_agglomerate(points, _THRESHOLD), model.project(embeddings[long]), model.psi)
    if speakers and groups.shape[1] != speakers:
        groups = np.eye(speakers)[_ward(points, speakers)]
        groups = groups[:, groups.any(axis=0)]
    centroids = _unit(groups.T @ embeddings[long])
    return _assign(_unit(embeddings) @ centroids.T, windows)


def _agglomerate(points: Floats, threshold: float) -> Ints:
    """Cluster unit vectors by centroid linkage at a Euclidean distance; in pieces where there are many."""
    if len(points) == 1:
        return np.zeros(1, np.int64)
    if len(points) <= _LINKAGE_MAX:
        return fcluster(linkage(points, method="centroid"), threshold, "distance").astype(np.int64) - 1
    labels = np.empty(len(points), np.int64)
    centroids: list[Floats] = []
    for start in range(0, len(points), _LINKAGE_MAX):
        piece = points[start : start + _LINKAGE_MAX]
        local = _agglomerate(piece, threshold)
        labels[start : start + len(piece)] = local + len(centroids)
        centroids.extend(_unit(_means(piece, local)))
    if len(centroids) >= len(points):
        return labels
    return _agglomerate(np.array(centroids), threshold)[labels]


def _ward(points: Floats, number: int) -> Ints:
    """Cut unit vectors into `number` clusters of least variance (fewer points: fewer clusters)."""
    labels = np.arange(len(points))
    if len(points) > _LINKAGE_MAX:
        labels = _agglomerate(points, _THRESHOLD / 2)
    centroids = _means(points, labels)
    if len(centroids) == 1:
        return np.zeros(len(points), np.int64)
    return (fcluster(linkage(centroids, method="ward"), number, "maxclust").astype(np.int64) - 1)[labels]


def _vbx(start: Ints, features: Floats, psi: Floats) -> Floats:
    """Refine clusters by variational Bayes: -> responsibilities (n, k) of the clusters that are left."""
    gamma = softmax(np.eye(start.max() + 1)[start] * _SMOOTHING, axis=1)
    prior = np.full(gamma.shape[1], 1 / gamma.shape[1])
    constant = -0.5 * (np.sum(features**2, axis=1, keepdims=True) + features.shape[1] * np.log(2 * np.pi))
    rho = features * np.sqrt(psi)
    bound = -np.inf
    for _ in range(_ITERATIONS):
        precision = 1 / (1 + _FA / _FB * gamma.sum(axis=0)[:, None] * psi)
        alpha = _FA / _FB * precision * (gamma.T @ rho)
        likelihood = _FA * (rho @ alpha.T - 0.5 * (precision + alpha**2) @ psi + constant) + np.log(prior + 1e-8)
        total = logsumexp(likelihood, axis=1, keepdims=True)
        gamma = np.exp(likelihood - total)
        prior = gamma.sum(axis=0) / len(features)
        last, bound = bound, total.sum() + _FB * 0.5 * np.sum(np.log(precision) - precision - alpha**2 + 1)
        if bound - last < 1e-4:
            break
    return gamma[:, prior > _MIN_PRIOR]


def _assign(similarity: Floats, windows: Ints) -> Ints:
    """Give every voice (row) its most similar speaker (column), within a window each a different one."""
    labels = similarity.argmax(axis=1)
    order = np.argsort(windows, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(windows[order])) + 1):
        if len(rows) > 1:
            voices, chosen = linear_sum_assignment(similarity[rows], maximize=True)
            labels[rows[voices]] = chosen
    return labels


def _means(points: Floats, labels: Ints) -> Floats:
    sums = np.zeros((labels.max() + 1, points.shape[1]))
    np.add.at(sums, labels, points)
    means: Floats = sums / np.bincount(labels)[:, None]
    return means


def _unit(vectors: npt.NDArray[np.floating]) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
