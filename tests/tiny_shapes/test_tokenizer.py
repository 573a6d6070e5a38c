import pytest

from omnirt_lab.tiny_shapes.captions import known_words
from omnirt_lab.tiny_shapes.tokenizer import MAX_TOKENS, build_tokenizer, learn_merges, save_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(known_words())


def test_each_known_word_is_one_token(tokenizer):
    pieces = {word: tokenizer.tokenize(word) for word in known_words()}

    assert pieces == {word: [f"{word}</w>"] for word in known_words()}


def test_the_merges_depend_on_the_words_alone():
    assert learn_merges(["aab", "ab"]) == [("a", "b</w>"), ("a", "ab</w>")]


@pytest.mark.parametrize("text", ["", "zebra", "😀", "ÄÖ ü ß 漢字", "red " * 500, "\x00\n\t", "<|endoftext|>", "RED"])
def test_any_text_becomes_at_most_32_tokens(tokenizer, text):
    numbers = tokenizer(text, padding="max_length", truncation=True).input_ids

    assert len(numbers) == MAX_TOKENS
    assert max(numbers) < len(tokenizer)


def test_capital_letters_make_no_difference(tokenizer):
    assert tokenizer.tokenize("A Red Circle") == tokenizer.tokenize("a red circle")


def test_the_saved_tokenizer_has_the_files_of_old_and_new_transformers(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)

    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2\n")
