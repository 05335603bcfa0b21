"""Group the voices of all windows into speakers, over the recording as a whole; networks and times are not here.

Linkage on cosine distances. VBx with the PLDA model that comes with community-1 was tried in its place: it lost
speakers of recordings under a minute and was no better on ten minutes.
"""

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array

_THRESHOLD = 0.56
"""Mean cosine distance within which voices are one speaker's."""
_MIN_SPEECH_S = 1.0
"""What a voice must have said to have a part in making speakers; shorter ones only join them."""
_SURE_S = 2.0
"""What one voice of a group must have said for the group to be a speaker on the ordinary distance alone."""
_UNSURE_DISTANCE = 0.7
"""Cosine distance within which any other group is what was left over of the nearest such speaker: a voice of a second,
or mixed with another's, lies up to 0.66 from its own speaker's, and hardly ever within 0.75 of somebody else's."""
_MIN_SHARE = 0.005
"""Share of all speech below which a group is no speaker, but what is left over of others."""
_LINKAGE_MAX = 1000
"""Most points in one linkage, which then takes some 20 MB; more are condensed first."""
_CONDENSED = 250

Floats = npt.NDArray[np.float64]
Embeddings = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def cluster(embeddings: Embeddings, speech_s: Floats, windows: Ints, at_once: Ints, speakers: int) -> Ints:
    """Name the speaker of every voice: (n, 256), (n,), (n,), (m, 2) -> (n,) of 0 .. k-1.

    `speech_s` is how long a voice was heard, `windows` which window it is of, `at_once` are pairs of voices that were
    heard at the same time; `speakers` is the number to find, 0 to find it out. There are fewer than `speakers` only
    where there are fewer voices.
    """
    if len(embeddings) == 0:
        return np.zeros(0, np.int64)
    points = _unit(embeddings)
    telling = speech_s >= _MIN_SPEECH_S
    if telling.sum() < max(speakers, 1):
        telling = np.ones(len(points), bool)
    places = np.cumsum(telling) - 1
    pairs = places[at_once[telling[at_once].all(axis=1)]]
    groups = _groups(points[telling], speech_s[telling], pairs, speakers)
    kept = groups >= 0
    centroids = _unit(_means(points[telling][kept], groups[kept]))
    return _assign(points @ centroids.T, windows)


def _groups(points: Floats, speech_s: Floats, at_once: Ints, speakers: int) -> Ints:
    """Group unit vectors into speakers; -1 where a point is of no group that is large enough."""
    condensed = _condense(points)
    centroids = _unit(_means(points, condensed))
    if len(centroids) == 1:
        return condensed
    if speakers:
        # Complete linkage: cut at a number, the average one tends to set stray voices apart instead of speakers.
        tree = _tree(centroids, "complete")
        groups: Ints = fcluster(tree, speakers, "maxclust").astype(np.int64) - 1
        return groups[condensed]
    tree = _tree(centroids, "average")
    groups = fcluster(tree, _THRESHOLD, "distance").astype(np.int64)[condensed] - 1
    groups = _join_unsure(points, speech_s, at_once, groups)
    totals = np.bincount(groups, speech_s)
    large = totals >= min(_MIN_SHARE * totals.sum(), totals.max())
    numbers: Ints = np.where(large, np.cumsum(large) - 1, -1)
    return numbers[groups]


def _join_unsure(points: Floats, speech_s: Floats, at_once: Ints, groups: Ints) -> Ints:
    """Join groups that were only heard for moments to the sure speaker they resemble, unless heard at once with it."""
    longest_s = np.zeros(groups.max() + 1)
    np.maximum.at(longest_s, groups, speech_s)
    sure = np.flatnonzero(longest_s >= _SURE_S)
    if not len(sure):
        return groups
    centroids = _unit(_means(points, groups))
    distances = 1 - centroids @ centroids[sure].T
    nearest = sure[distances.argmin(axis=1)]
    others = np.zeros((len(centroids), len(centroids)), bool)
    others[tuple(groups[at_once].T)] = True
    alone = ~(others | others.T)[np.arange(len(centroids)), nearest]
    joining = (longest_s < _SURE_S) & (distances.min(axis=1) < _UNSURE_DISTANCE) & alone
    joined = np.where(joining, nearest, np.arange(len(centroids)))[groups]
    numbers: Ints = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    return numbers


def _condense(points: Floats) -> Ints:
    """Label points so that at most _LINKAGE_MAX groups of near ones are left, in memory that does not grow."""
    labels: Ints = np.arange(len(points))
    while (count := int(labels.max()) + 1) > _LINKAGE_MAX:
        centroids = _unit(_means(points, labels))
        joined: Ints = np.empty(count, np.int64)
        groups = 0
        for start in range(0, count, _LINKAGE_MAX):
            piece = centroids[start : start + _LINKAGE_MAX]
            if len(piece) > _CONDENSED:
                local = fcluster(_tree(piece, "average"), _CONDENSED, "maxclust") - 1
            else:
                local = np.arange(len(piece))
            joined[start : start + len(piece)] = local + groups
            groups += int(local.max()) + 1
        labels = joined[labels]
    return labels


def _tree(points: Floats, method: str) -> Floats:
    """Link unit vectors by cosine distance (a matrix product, which is ten times as fast as pdist)."""
    distances = 1 - points @ points.T
    tree: Floats = linkage(distances[np.triu_indices(len(points), 1)].clip(0), method=method)
    return tree


def _assign(similarity: Floats, windows: Ints) -> Ints:
    """Give every voice (row) its most similar speaker (column), within a window each a different one."""
    labels: Ints = similarity.argmax(axis=1).astype(np.int64)
    order = np.argsort(windows, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(windows[order])) + 1):
        if len(rows) > 1:
            voices, chosen = linear_sum_assignment(similarity[rows], maximize=True)
            labels[rows[voices]] = chosen
    return labels


def _means(points: Floats, labels: Ints) -> Floats:
    members = csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    means: Floats = members @ points / np.bincount(labels)[:, None]
    return means


def _unit(vectors: npt.NDArray[np.floating]) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
