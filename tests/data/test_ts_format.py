"""The .ts format: values, classes and numbers as they are written; what is malformed is named by file and line."""

import pytest
import torch

from longwave.data import read_ts
from longwave.errors import DataError

TWO_CHANNELS = """\
# A comment, then an empty line.

@problemName Walks
@timeStamps false
@missing true
@univariate false
@dimensions 2
@equalLength false
@classLabel true run walk
@data
0.5,-1e2,3:1,2,3:walk
# between samples
4,5:6,7:run
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "walks.ts"
        path.write_text(text)
        return path

    return write


def test_dimensions_lengths_and_classes(write):
    samples = read_ts(write(TWO_CHANNELS))
    assert samples.x.tolist() == [[0.5, 1], [-100, 2], [3, 3], [4, 6], [5, 7]]
    assert samples.lengths.tolist() == [3, 2]
    assert (samples.y.tolist(), samples.classes) == ([1, 0], ("run", "walk"))


def test_equal_lengths_are_rectangular(write):
    text = "@univariate true\n@equalLength true\n@seriesLength 2\n@classLabel true a\n@data\n1,2:a\r\n3,4:a\n"
    samples = read_ts(write(text))
    assert samples.lengths is None
    assert samples.x.tolist() == [[[1], [2]], [[3], [4]]]


def test_tags_in_any_capitals_and_spellings(write):
    samples = read_ts(
        write("\ufeff@TIMESTAMPS False\n@dimension 1\n@serieslength 2\n@CLASSLABEL True a\n@DATA\n1,2:a\n")
    )
    assert samples.x.flatten().tolist() == [1, 2]


def test_numbers_as_targets(write):
    samples = read_ts(write("@targetLabel true\n@data\n1,2:0.25\n3,4:-7\n"))
    assert samples.objective == "regress"
    assert samples.y.tolist() == [[0.25], [-7]]


def test_samples_without_targets(write):
    samples = read_ts(write("@classLabel false\n@data\n1,2:5,6\n3,4:7,8\n"))
    assert (samples.objective, samples.channels, len(samples)) == (None, 2, 2)


def test_missing_values_are_refused_or_interpolated(write):
    path = write("@missing true\n@classLabel true a\n@data\n1,2,3:a\n?,1,?,NaN,4,?:a\n")
    with pytest.raises(DataError, match=r"walks\.ts, line 5: .*dimension 0 at position 0 is missing; fill='linear'"):
        read_ts(path)
    samples = read_ts(path, fill="linear")
    assert samples[[1]].x.flatten().tolist() == [1, 1, 2, 3, 4, 4]
    with pytest.raises(DataError, match="every value of dimension 0 is missing"):
        read_ts(write("@data\n?,?\n"), fill="linear")


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    (
        ("# A comment", "A comment", 1, "expected a tag such as @classLabel before @data"),
        ("@problemName", "@probelmName", 3, "'@probelmName Walks' is not a tag"),
        ("@timeStamps false", "@timeStamps maybe", 4, "expected true or false, found 'maybe'"),
        ("@timeStamps false", "@timeStamps true", 10, "time stamps, which are not read"),
        ("@dimensions 2", "@dimensions two", 7, "is not a tag of the format, or not what its tag takes"),
        ("@dimensions 2", "@dimensions 3", 11, "expected 3 dimensions, found 2"),
        ("@univariate false", "@univariate true", 11, "expected 1 dimensions, found 2"),
        ("@equalLength false", "@equalLength true", 13, "expected 3 values in each dimension.*found 2"),
        ("@equalLength false", "@equalLength true\n@seriesLength 4", 12, "expected 4 values"),
        ("true run walk", "true", 10, "must name the classes"),
        ("true run walk", "true run walk run", 10, "names a class twice"),
        ("4,5:6,7:run", "4,5:6,7:swim", 13, "class 'swim' is not among those of @classLabel: run walk"),
        ("4,5:6,7:run", "4,5:6,7,8:run", 13, r"equally long, found lengths \[2, 3\]"),
        ("4,5:6,7:run", "4,x:6,7:run", 13, "dimension 0 is not numbers separated by commas: '4,x'"),
        ("4,5:6,7:run", "4,:6,7:run", 13, "dimension 0 is not numbers"),
        ("4,5:6,7:run", "4,inf:6,7:run", 13, "dimension 0 has an infinite value"),
        ("4,5:6,7:run", "4,5:run", 13, "expected 2 dimensions, found 1"),
        ("4,5:6,7:run", "run", 13, "needs values before its target"),
        ("@classLabel true run walk", "@targetLabel true", 11, "the target must be a number, found 'walk'"),
    ),
)
def test_what_is_malformed_is_named_by_its_line(write, old, new, line, message):
    assert old in TWO_CHANNELS
    with pytest.raises(DataError, match=rf"walks\.ts, line {line}: .*{message}") as caught:
        read_ts(write(TWO_CHANNELS.replace(old, new)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("", "has no line @data"),
        ("@classLabel true a\n", "has no line @data"),
        ("@classLabel true a\n@data\n", "no samples"),
    ),
)
def test_an_empty_file(write, text, message):
    with pytest.raises(DataError, match=message):
        read_ts(write(text))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none\.ts: No such file"):
        read_ts(tmp_path / "none.ts")


@pytest.mark.parametrize("problem", ("BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels"))
def test_real_files_against_a_plain_reading(data_root, problem):
    path = data_root / "ucr-uea" / problem / f"{problem}_TEST.ts"
    rows = path.read_text().split("@data")[1].split()
    samples = read_ts(path)
    assert len(samples) == len(rows)
    for i in range(0, len(rows), 7):
        *dimensions, label = rows[i].split(":")
        expected = torch.tensor([[float(value) for value in values.split(",")] for values in dimensions]).T
        batch = samples[[i]]
        assert torch.equal(batch.x[0], expected)
        assert samples.classes[batch.y] == label
