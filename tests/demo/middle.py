"""The sample library's middle weeks: statistics, lists, and a quadratic loop that is found late."""

from tests.demo.beginning import MARKDOWN, WORDS
from tests.demo.change import append, change, replace, write

STATS = "prosekit/stats.py"

UNIQUE_BY_LIST = '''def unique_words(text):
    """The different words of `text`, in order of first appearance."""
    unique = []
    for word in words(text):
        if word not in unique:
            unique.append(word)
    return unique
'''

MIDDLE = (
    change(
        "Mean and median of sentence lengths",
        write(
            STATS,
            '''
            """Figures about many values."""

            import math


            def mean(values):
                """The sum by the number."""
                return math.fsum(values) / len(values)


            def median(values):
                """The value in the middle, or the mean of the two that are."""
                ordered = sorted(values)
                half = len(ordered) // 2
                return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
            ''',
        ),
        write(
            "tests/test_stats.py",
            """
            import pytest

            from prosekit import stats

            LENGTHS = [15, 20, 35, 40, 50]


            def test_mean():
                assert stats.mean(LENGTHS) == 32


            @pytest.mark.parametrize(("values", "middle"), [(LENGTHS, 35), ([4, 1, 3, 2], 2.5)])
            def test_median(values, middle):
                assert stats.median(values) == middle
            """,
        ),
    ),
    change(
        "Measure the median",
        write(
            "benchmarks/bench_stats.py",
            """
            import random

            import pytest

            from prosekit import stats


            @pytest.mark.parametrize("size", [5000])
            def test_median(benchmark, size):
                values = random.Random(size).choices(range(100), k=size)
                assert 40 < benchmark(stats.median, values) < 60
            """,
        ),
    ),
    change(
        "Percentiles",
        append(
            STATS,
            '''
            def percentile(values, percent):
                """The smallest of `values` that at least `percent` of them do not exceed."""
                ordered = sorted(values)
                rank = math.ceil(len(ordered) * percent / 100)
                return ordered[max(rank, 1) - 1]
            ''',
        ),
        append(
            "tests/test_stats.py",
            """
            @pytest.mark.parametrize(("percent", "value"), [(0, 15), (40, 20), (45, 35), (100, 50)])
            def test_percentile(percent, value):
                assert stats.percentile(LENGTHS, percent) == value
            """,
        ),
    ),
    change(
        "Render lists",
        replace(
            MARKDOWN,
            '    return f"<p>',
            '    if block.startswith("- "):\n'
            '        items = [f"<li>{render_line(line[2:])}</li>" for line in block.splitlines()]\n'
            '        return "<ul>" + "".join(items) + "</ul>"\n'
            '    return f"<p>',
        ),
        append(
            "tests/test_markdown.py",
            """
            def test_hyphens_are_a_list():
                assert render("- one\\n- two") == "<ul><li>one</li><li>two</li></ul>"
            """,
        ),
    ),
    change(
        "Quotation marks are no part of a word",
        replace(WORDS, 'strip(".,;:!?()")', 'strip(".,;:!?()\\"\'")'),
        append(
            "tests/test_words.py",
            """
            def test_quotation_marks_are_no_part_of_a_word():
                assert prose.words("'Yes', he said, \\"it's me\\"") == ["yes", "he", "said", "it's", "me"]
            """,
        ),
    ),
    change(
        "List different words in order of first appearance",
        replace(
            WORDS,
            'def unique_words(text):\n    """The different words of `text`, in alphabetical order."""\n'
            "    return sorted(set(words(text)))\n",
            UNIQUE_BY_LIST,
        ),
        replace("tests/test_words.py", '["be", "not", "or", "to"]', '["to", "be", "or", "not"]'),
        mark="slower",
    ),
    change(
        "Expect bold text one day",
        append(
            "tests/test_markdown.py",
            """
            @pytest.mark.xfail(reason="bold text is not rendered yet")
            def test_bold_text_may_hold_emphasis():
                assert render("**bold *and thin* text**") == "<p><strong>bold <em>and thin</em> text</strong></p>"
            """,
        ),
    ),
    change(
        "Name the public functions in one place",
        append(
            "prosekit/__init__.py",
            """
            from prosekit.markdown import render
            from prosekit.slug import slugify
            from prosekit.words import count_words, unique_words, words

            __all__ = ["count_words", "render", "slugify", "unique_words", "words"]
            """,
            blank_lines=1,
        ),
        replace("tests/test_words.py", "from prosekit import words as prose", "import prosekit as prose"),
        replace("benchmarks/bench_words.py", "from prosekit import words as prose", "import prosekit as prose"),
    ),
    change(
        "Guess the reading time of a text",
        append(
            WORDS,
            '''
            def reading_minutes(text, words_per_minute=200):
                """How long `text` takes to read."""
                return len(words(text)) / words_per_minute
            ''',
        ),
        append(
            "tests/test_words.py",
            """
            def test_reading_takes_time():
                assert reading_minutes("word " * 300) == 1.5
            """,
        ),
        replace(
            "tests/test_words.py",
            "import prosekit as prose\n",
            "import prosekit as prose\nfrom prosekit.words import reading_minutes\n",
        ),
        replace("prosekit/__init__.py", "count_words, unique_words", "count_words, reading_minutes, unique_words"),
        replace("prosekit/__init__.py", '"render",', '"reading_minutes", "render",'),
    ),
    change(
        "Test slugs of other alphabets",
        append(
            "tests/test_slug.py",
            """
            @pytest.mark.parametrize(("title", "slug"), [("Çà et là", "ca-et-la"), ("Ås", "as"), ("日本", "")])
            def test_only_ascii_is_left(title, slug):
                assert slugify(title) == slug
            """,
        ),
    ),
    change(
        "Find repeated words by their hash, not by walking a list",
        replace(
            WORDS,
            UNIQUE_BY_LIST,
            'def unique_words(text):\n    """The different words of `text`, in order of first appearance."""\n'
            "    return list(dict.fromkeys(words(text)))\n",
        ),
        mark="fixed",
    ),
    change(
        "Keep the patterns of running text in a table",
        replace(
            MARKDOWN,
            '    line = re.sub(r"\\*(.+?)\\*", r"<em>\\1</em>", line)\n'
            '    line = re.sub(r"`(.+?)`", r"<code>\\1</code>", line)\n'
            '    line = re.sub(r"\\[(.+?)\\]\\((.+?)\\)", r\'<a href="\\2">\\1</a>\', line)\n'
            "    return line\n",
            "    for pattern, replacement in PATTERNS:\n"
            "        line = pattern.sub(replacement, line)\n"
            "    return line\n",
        ),
        replace(
            MARKDOWN,
            "import re\n",
            "import re\n\nPATTERNS = [\n"
            '    (re.compile(r"\\*(.+?)\\*"), r"<em>\\1</em>"),\n'
            '    (re.compile(r"`(.+?)`"), r"<code>\\1</code>"),\n'
            '    (re.compile(r"\\[(.+?)\\]\\((.+?)\\)"), r\'<a href="\\2">\\1</a>\'),\n'
            "]\n",
        ),
    ),
    change(
        "Test that white space around blocks is ignored",
        append(
            "tests/test_markdown.py",
            """
            def test_white_space_around_a_block_is_ignored():
                assert render("  # One \\n\\n two ") == "<h1>One</h1>\\n<p>two</p>"
            """,
        ),
    ),
)
