import numpy as np
import pytest
import torch

from oodml.errors import UsageError
from oodml.eval.retrieval import nearest as neighbors
from oodml.eval.retrieval.nearest import nearest_neighbors, normalized


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbors, "ROWS", 32)
    monkeypatch.setattr(neighbors, "COLUMNS", 64)


def search(vectors, **settings):
    blocks = list(nearest_neighbors(vectors, **settings))
    names = ("similarity", "index")
    assert [block.first for block in blocks] == list(range(0, len(vectors), neighbors.ROWS))
    return [torch.cat([getattr(block, name) for block in blocks]) for name in names]


def data(count, dimension=7, seed=0, duplicates=0):
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(count, dimension, generator=draw)
    for _ in range(duplicates):
        source, target = torch.randint(count, (2,), generator=draw)
        vectors[target] = vectors[source]
    return vectors


def brute_force(similarity, k):
    order = np.lexsort(
        (np.arange(similarity.shape[1])[None].repeat(len(similarity), 0), -similarity)
    )
    return order[:, :k]


@pytest.mark.parametrize(("count", "k"), [(30, 29), (300, 5), (2049, 3)])
def test_neighbors_equal_brute_force_in_float64(count, k):
    vectors = data(count)
    similarity, index = search(vectors, k=k)
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    exact = (unit @ unit.T).numpy()
    np.fill_diagonal(exact, -np.inf)
    expected = brute_force(exact, k)
    assert (index.numpy() == expected).mean() > 0.999
    np.testing.assert_allclose(similarity, np.take_along_axis(exact, expected, 1), atol=1e-6)


def test_gallery_leaves_nothing_out():
    vectors = data(40)
    _, index = search(vectors, gallery=vectors, k=40)
    assert torch.equal(index[:, 0], torch.arange(40))
    assert torch.equal(index.sort(1).values, torch.arange(40).expand(40, 40))


def test_neighbors_are_those_of_the_gallery_given():
    vectors, others = data(40), data(70).flip(0) + 0.1
    _, index = search(vectors, gallery=others, k=5)
    unit, found = (v.double() / v.double().norm(dim=1, keepdim=True) for v in (vectors, others))
    assert torch.equal(index, (unit @ found.T).topk(5).indices)


def test_the_query_is_left_out_by_index_and_its_duplicate_stays():
    vectors = data(50)
    vectors[41] = vectors[7]
    similarity, index = search(vectors, k=49)
    assert index[7, 0] == 41
    assert index[41, 0] == 7
    assert not (index == torch.arange(50)[:, None]).any()
    assert torch.isfinite(similarity).all()


@pytest.mark.parametrize("k", [1, 6, 200])
def test_result_does_not_depend_on_the_memory(k, small_blocks):
    vectors = data(500, duplicates=400)
    budgets = (1, 150_000 + 32 * 96 * k, 1 << 30)
    small, middle, large = (search(vectors, k=k, memory=each) for each in budgets)
    for ours, theirs, third in zip(small, middle, large, strict=True):
        assert torch.equal(ours, third)
        assert torch.equal(theirs, third)


@pytest.mark.parametrize("memory", [1, 1 << 30])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_ties_are_ordered_by_index(k, memory, small_blocks):
    count = 333
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 12, count)
    vectors = torch.eye(12)[torch.from_numpy(kinds)]
    similarity, index = search(vectors, k=k, memory=memory)
    exact = (kinds[:, None] == kinds[None]).astype(float)
    np.fill_diagonal(exact, -np.inf)
    expected = brute_force(exact, k)
    assert np.array_equal(index.numpy(), expected)
    assert similarity.max() == 1


def test_equal_vectors_are_exactly_equally_near_wherever_they_stand():
    draw = torch.Generator().manual_seed(3)
    vectors = torch.randn(1, 129, generator=draw).expand(neighbors.COLUMNS + 300, -1)
    similarity, index = search(vectors, k=4)
    assert similarity.unique().numel() == 1
    assert index[100].tolist() == [0, 1, 2, 3]
    assert index[2].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("k", [0, 30])
def test_more_neighbours_than_samples_get_one_line(k):
    vectors = data(30)
    with pytest.raises(UsageError, match="1 to 29"):
        search(vectors, k=k)
    search(vectors, gallery=vectors, k=30)


def test_normalising_neither_overflows_nor_divides_by_zero():
    vectors = torch.tensor([[3e38, 4e38 / 2], [3e-45, 0], [0, 0], [3, 4]], dtype=torch.float32)
    unit = normalized(vectors)
    assert torch.isfinite(unit).all()
    np.testing.assert_allclose(unit.norm(dim=1), [1, 1, 0, 1], atol=1e-6)
