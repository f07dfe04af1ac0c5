"""The exercises of notebook 08 against the package's own files, checks, scores and grades."""

from types import SimpleNamespace

import numpy as np
import pytest

from facekit.common.files import write_table
from facekit.course import exercises
from facekit.course.exercises import submission
from facekit.evaluation import statistics
from facekit.submission import csvs
from facekit.submission.cutoffs import CUTOFFS

KNOWN = exercises.exercises()


def test_the_texts_are_those_of_the_packages_files(tmp_path):
    for names, predicted, classes, identities in KNOWN["csv_texts"].cases(seed=1):
        paths = tmp_path / "classification.csv", tmp_path / "verification.csv"
        labels = [classes.index(name) for name in predicted]
        csvs.write_classification(paths[0], names, labels)
        csvs.write_verification(paths[1], identities)
        found = submission.csv_texts(names, predicted, classes, identities)
        assert found == tuple(path.read_text() for path in paths)


def test_faults_are_counted_as_by_hand_and_found_where_the_check_finds_any(tmp_path):
    kinds = set()
    for ids, expected in KNOWN["faults"].cases(seed=1):
        missing = sum(i not in ids for i in expected)
        extra = len({i for i in ids if i not in expected})
        twice = len({i for i in ids if ids.count(i) > 1})
        shuffled = missing + extra + twice == 0 and ids != expected
        assert submission.faults(ids, expected) == (missing, extra, twice, shuffled)
        kinds.add((missing > 0, extra > 0, twice > 0, shuffled))
        path = tmp_path / "verification.csv"
        write_table(path, csvs.COLUMNS, [(i, "n000000") for i in ids])
        known = SimpleNamespace(labels=[])
        data = SimpleNamespace(verification=tmp_path, unknown_test=expected, known=known)
        found = csvs.check(path, data)
        words = ("missing", "no test image", "more than once", "shuffled")
        told = tuple(any(word in problem for problem in found) for word in words)
        assert told == (missing > 0, extra > 0, twice > 0, shuffled)
    assert len(kinds) >= 5, "every fault is among the cases, and none at all"


def test_a_score_by_id_is_the_packages_where_all_rows_are_there(tmp_path):
    for mine, truth in KNOWN["score_by_id"].cases(seed=1):
        found = submission.score_by_id(mine, truth)
        assert found == np.mean([i in mine and mine[i] == truth[i] for i in truth])
        if set(mine) == set(truth):
            files = tmp_path / "mine.csv", tmp_path / "truth.csv"
            for path, labels in zip(files, (mine, truth), strict=True):
                write_table(path, csvs.COLUMNS, labels.items())
            assert found == csvs.score(*files)


def test_the_grade_and_its_error_are_the_packages():
    ours = CUTOFFS["classification"]
    for right, count, cutoffs in KNOWN["grade"].cases(seed=1):
        assert cutoffs == {"HIGH": ours.high, "MEDIUM": ours.medium, "LOW": ours.low}
        accuracy, error, name = submission.grade(right, count, cutoffs)
        right_or_not = np.arange(count) < right
        assert accuracy == pytest.approx(right_or_not.mean())
        assert error == pytest.approx(right_or_not.std() / np.sqrt(count))
        assert error == pytest.approx(statistics.standard_error(accuracy, count))
        assert name == ours.grade(accuracy)
