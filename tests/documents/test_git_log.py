"""Commits of a real repository, made here, as dated texts by author."""

import os
import subprocess

import pytest

from longdoc.documents import catalog, git_log
from longdoc.documents.catalog import DataSettings
from longdoc.documents.git_log import GitSettings
from longdoc.errors import DataError, SettingsError
from tests.conftest import run_command

ANN = ("Ann Example", "ann.e@example.org", "+0200")
BOB = ("Bob Sample", "bob@sample.net", "-0500")


def git(folder, *arguments, **environment):
    subprocess.run(
        ["git", "-c", "commit.gpgsign=false", "-C", str(folder), *arguments],
        check=True, capture_output=True, env={**os.environ, **environment},
    )  # fmt: skip


def commit(folder, author, number, message):
    name, address, zone = author
    date = f"2024-03-{number % 28 + 1:02}T{number % 24:02}:30:00{zone}"
    names = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", name), ("EMAIL", address), ("DATE", date))
    }
    git(folder, "commit", "--allow-empty", "-m", message, **names)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    for number in range(12):
        commit(
            folder,
            ANN,
            number,
            f"Mend the {number} th thing that Bob asked for\n\nSigned-off-by: Ann Example <ann.e@example.org>",
        )
        commit(folder, BOB, number, f"added number {number} as ann.e wanted, see bob@sample.net")
    commit(folder, BOB, 1, "short one")
    commit(folder, ("Cy Rare", "cy@x.org", "+0000"), 2, "the only commit of this author here")
    return folder


def load(folder, **settings):
    git_settings = GitSettings(**{"fewest": 5, "words": 5, **settings})
    return catalog.load(DataSettings(dataset=f"git-log:{folder}", git=git_settings))


def test_commits_are_texts_by_author_with_local_times(repository):
    corpus = load(repository)
    assert (corpus.kind, corpus.task) == ("multi-class", "author")
    documents = corpus.splits["train"]
    assert len(documents) == 24
    assert len(corpus.labels) == 2
    assert documents[0].about["date"] == "2024-03-01T00:30:00+02:00"
    assert corpus.notes == {
        "commits": 26, "commits_kept": 24, "authors": 3, "names_shown": False,
    }  # fmt: skip


def test_names_and_addresses_stand_neither_in_labels_nor_in_texts(repository):
    corpus = load(repository)
    everything = " ".join(d.text for d in corpus.splits["train"]) + " ".join(corpus.labels)
    for word in ("Ann", "Bob", "Example", "ann.e", "@", "Signed"):
        assert word not in everything
    assert "that AUTHOR asked for" in everything
    assert all(label.startswith("author-") for label in corpus.labels)


def test_hashes_are_those_of_this_machine_alone(repository, tmp_path, monkeypatch):
    first = load(repository).labels
    assert load(repository).labels == first
    salt = tmp_path / "cache" / "git-log-salt"
    assert salt.stat().st_mode & 0o077 == 0
    monkeypatch.setenv("LONGDOC_CACHE", str(tmp_path / "other"))
    assert not set(load(repository).labels) & set(first)


def test_names_are_shown_when_asked_for(repository):
    corpus = load(repository, names=True)
    assert set(corpus.labels) == {
        "Ann Example <ann.e@example.org>", "Bob Sample <bob@sample.net>",
    }  # fmt: skip
    assert any("Bob asked" in d.text for d in corpus.splits["train"])
    assert not any("Signed-off" in d.text for d in corpus.splits["train"])


def test_a_repository_cannot_run_programs(repository, tmp_path):
    trap = tmp_path / "trap"
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "core.sshCommand"):
        git(repository, "config", key, f"touch {trap}; false")
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "pager.log", f"touch {trap}")
    assert len(load(repository).splits["train"]) == 24
    assert not trap.exists()


def test_too_few_authors_say_what_to_change(repository):
    with pytest.raises(DataError, match=r"2 of 3 authors|0 of 3 authors .*data\.git\.fewest"):
        load(repository, fewest=100)
    with pytest.raises(SettingsError, match=r"data\.git\.fewest must be at least 1"):
        GitSettings(fewest=0)


def test_short_names_other_scripts_and_other_cases_are_hidden(repository):
    commit(
        repository,
        ("Bo Li", "bo@x.org", "+0000"),
        1,
        "please ask ANN and bo li, also 请王伟看看 today",
    )
    commit(repository, ("王伟", "", "+0000"), 2, "a message of five words exactly")
    corpus = load(repository, fewest=1)
    everything = " ".join(d.text for d in corpus.splits["train"])
    assert "please ask AUTHOR and AUTHOR AUTHOR, also 请AUTHOR看看 today" in everything
    assert len(corpus.labels) == 5


def test_an_empty_salt_is_not_used(repository, tmp_path):
    salt = tmp_path / "cache" / "git-log-salt"
    salt.parent.mkdir()
    salt.touch()
    with pytest.raises(DataError, match="git-log-salt is damaged; delete it"):
        load(repository)


def test_variables_of_git_do_not_name_another_repository(repository, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert len(load(repository).splits["train"]) == 24


def test_odd_names_and_long_words_do_not_stop_it(repository):
    commit(
        repository, ("An\x1fOdd", "odd@x.org", "+0000"), 3, "x" * 60_000 + " and four more words"
    )
    assert len(load(repository, fewest=1).splits["train"]) == 26


@pytest.mark.parametrize("path", ["", "~nosuchuser/x", "-x"])
def test_a_path_that_names_no_folder_gives_one_sentence(path):
    with pytest.raises(DataError, match="there is no folder"):
        catalog.load(DataSettings(dataset=f"git-log:{path}"))


@pytest.mark.parametrize("made", [True, False])
def test_what_is_no_repository_gives_one_sentence(tmp_path, made, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    with pytest.raises(DataError, match="not a git repository" if made else "there is no folder"):
        load(folder)


def test_entries_are_whole_wherever_a_chunk_ends(repository, monkeypatch):
    first = load(repository)
    monkeypatch.setattr(git_log, "CHUNK", 13)
    assert load(repository).digest() == first.digest()


def test_every_author_and_message_stays_by_default(repository):
    corpus = catalog.load(DataSettings(dataset=f"git-log:{repository}"))
    assert len(corpus.splits["train"]) == 26
    assert len(corpus.labels) == 3


def test_it_is_a_data_set_for_every_command(repository):
    done = run_command("datasets", "labels", f"git-log:{repository}", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("author-") == 3
    corpus = catalog.prepare(DataSettings(dataset=f"git-log:{repository}"))
    assert all(corpus.splits.values())


def test_a_commit_that_was_picked_or_put_aside_is_one_text(repository):
    git(repository, "branch", "picked")
    git(repository, "checkout", "-q", "-b", "other", "HEAD~3")
    git(repository, "cherry-pick", "--allow-empty", "picked")
    git(repository, "notes", "add", "-m", "a note that nobody wrote as a message")
    (repository / "kept.txt").write_text("x")
    git(repository, "add", "kept.txt")
    git(repository, "stash")
    texts = [d.text for d in load(repository, fewest=1, words=1).splits["train"]]
    assert len(texts) == len(set(texts)) == 26
    assert not any(text.startswith(("index on", "WIP on", "a note")) for text in texts)


def test_parts_of_names_and_logins_are_hidden(repository):
    jean = ("Jean-Pierre Dupont-Moretti", "12345+jpdm@users.noreply.github.com", "+0100")
    smith = ("Zoe Smith", "zoe@buildhost", "+0100")
    commit(repository, jean, 3, "ask Pierre or Dupont, or @jpdm, in 12345 days")
    commit(repository, smith, 4, "Zoe_Smith wrote to dave@buildhost of it")
    everything = " ".join(d.text for d in load(repository, fewest=1).splits["train"])
    for part in ("Pierre", "Dupont", "jpdm", "Smith", "dave", "buildhost"):
        assert part not in everything
    assert "12345 days" in everything


def test_first_lines_that_look_like_trailers_stay(repository):
    cy = ("Cy Rare", "cy@x.org", "+0000")
    for number, line in enumerate(
        ("authorization: check tokens", "cc: switch to clang", "tested: all")
    ):
        commit(
            repository, cy, number, f"{line}\n\nfrom_dict: handle None\nReviewed-by: Ann Example"
        )
    texts = [d.text for d in load(repository, fewest=1).splits["train"]]
    for line in ("authorization: check tokens", "cc: switch to clang", "tested: all"):
        assert f"{line}\nfrom_dict: handle None" in [text.replace("\n\n", "\n") for text in texts]
    assert not any("Reviewed" in text for text in texts)


def test_an_author_is_one_whether_names_are_shown_or_not(repository):
    commit(repository, ("A. Example", ANN[1], "+0200"), 5, "five words by Ann again")
    shown = load(repository, fewest=1, names=True)
    assert len(shown.labels) == len(load(repository, fewest=1).labels)
    assert "Ann Example <ann.e@example.org>" in shown.labels
