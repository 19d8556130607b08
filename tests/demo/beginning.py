"""The sample library's first weeks: words, slugs and a little Markdown."""

from tests.demo.change import append, change, replace, write

WORDS = "prosekit/words.py"
MARKDOWN = "prosekit/markdown.py"

BEGINNING = (
    change(
        "Split a text into words",
        write(".gitignore", "__pycache__/\n.pytest_cache/\n.benchmarks/\n"),
        write("README.md", "# prosekit\n\nSmall tools for prose.\n"),
        write(
            "pyproject.toml",
            """
            [project]
            name = "prosekit"
            version = "0.1.0"

            [tool.pytest.ini_options]
            pythonpath = [".", "benchmarks"]
            python_files = ["test_*.py", "bench_*.py"]
            """,
        ),
        write("prosekit/__init__.py", '"""Small tools for prose."""\n'),
        write(
            WORDS,
            '''
            """The words of a text."""


            def words(text):
                """The words of `text` in lower case, in order, without punctuation."""
                found = []
                for piece in text.split():
                    word = piece.strip(".,;:!?()").lower()
                    if word:
                        found.append(word)
                return found
            ''',
        ),
        write(
            "tests/test_words.py",
            """
            import pytest

            from prosekit import words as prose


            def test_words_are_lower_case():
                assert prose.words("The quick Fox") == ["the", "quick", "fox"]


            def test_punctuation_is_no_part_of_a_word():
                assert prose.words("Stop! (Now.)") == ["stop", "now"]
            """,
        ),
        write(
            "benchmarks/texts.py",
            '''
            """Made-up text, the same in every run."""

            import random


            def make_text(size):
                """`size` words, about a quarter of them different."""
                draw = random.Random(size)
                vocabulary = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(size // 4)]
                return " ".join(draw.choices(vocabulary, k=size)) + "."
            ''',
        ),
        write(
            "benchmarks/bench_words.py",
            """
            import pytest
            from texts import make_text

            from prosekit import words as prose


            @pytest.mark.parametrize("size", [300, 2000])
            def test_words(benchmark, size):
                assert len(benchmark(prose.words, make_text(size))) == size
            """,
        ),
    ),
    change(
        "Make slugs of titles",
        write(
            "prosekit/slug.py",
            '''
            """Short names for addresses."""

            import re
            import unicodedata


            def slugify(title):
                """`title` as part of an address: ASCII, lower case, words joined by hyphens."""
                plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
                return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
            ''',
        ),
        write(
            "tests/test_slug.py",
            """
            import pytest

            from prosekit.slug import slugify


            def test_words_are_joined_by_hyphens():
                assert slugify("The quick, brown Fox!") == "the-quick-brown-fox"
            """,
        ),
        write(
            "benchmarks/bench_slug.py",
            """
            from prosekit.slug import slugify

            TITLE = "On the Origin of Species by Means of Natural Selection; a Résumé "


            def test_slugify(benchmark):
                assert benchmark(slugify, TITLE * 20).endswith("a-resume")
            """,
        ),
    ),
    change("Say in the readme what prosekit is for", append("README.md", "Words, slugs, pages.\n", blank_lines=1)),
    change(
        "Count words",
        append(
            WORDS,
            '''
            def count_words(text):
                """How often each word stands in `text`."""
                found = words(text)
                counts = {}
                for word in set(found):
                    counts[word] = found.count(word)
                return counts
            ''',
        ),
        append(
            "tests/test_words.py",
            """
            def test_each_word_is_counted():
                assert prose.count_words("To be or not to be") == {"to": 2, "be": 2, "or": 1, "not": 1}
            """,
        ),
        append(
            "benchmarks/bench_words.py",
            """
            @pytest.mark.parametrize("size", [300, 2000])
            def test_count_words(benchmark, size):
                assert sum(benchmark(prose.count_words, make_text(size)).values()) == size
            """,
        ),
    ),
    change(
        "Test texts without words",
        append(
            "tests/test_words.py",
            """
            @pytest.mark.parametrize("text", ["", " \\n", "...", "( ! )"])
            def test_some_texts_have_no_words(text):
                assert prose.words(text) == []
            """,
        ),
    ),
    change(
        "List the different words of a text",
        append(
            WORDS,
            '''
            def unique_words(text):
                """The different words of `text`, in alphabetical order."""
                return sorted(set(words(text)))
            ''',
        ),
        append(
            "tests/test_words.py",
            """
            def test_a_word_is_listed_once():
                assert prose.unique_words("To be or not to be") == ["be", "not", "or", "to"]
            """,
        ),
        append(
            "benchmarks/bench_words.py",
            """
            @pytest.mark.parametrize("size", [300, 2000])
            def test_unique_words(benchmark, size):
                unique = benchmark(prose.unique_words, make_text(size))
                assert len(unique) == len(set(unique))
            """,
        ),
    ),
    change(
        "Render headings and paragraphs",
        write(
            MARKDOWN,
            '''
            """A small part of Markdown, rendered as HTML."""

            import html
            import re


            def render(text):
                """HTML of a page."""
                return "\\n".join(render_block(block.strip()) for block in text.split("\\n\\n"))


            def render_block(block):
                """HTML of what stands between two blank lines."""
                if block.startswith("#"):
                    title = block.lstrip("#")
                    level = len(block) - len(title)
                    return f"<h{level}>{render_line(title.strip())}</h{level}>"
                return f"<p>{render_line(block)}</p>"


            def render_line(line):
                """HTML of running text."""
                line = html.escape(line)
                return line
            ''',
        ),
        write(
            "tests/test_markdown.py",
            """
            import pytest

            from prosekit.markdown import render


            def test_a_heading_knows_its_level():
                assert render("## Two") == "<h2>Two</h2>"


            def test_paragraphs_are_parted_by_blank_lines():
                assert render("One.\\n\\nTwo.") == "<p>One.</p>\\n<p>Two.</p>"


            def test_markup_in_the_text_is_escaped():
                assert render("a < b & c") == "<p>a &lt; b &amp; c</p>"
            """,
        ),
    ),
    change(
        "Measure how fast pages are rendered",
        write(
            "benchmarks/bench_markdown.py",
            """
            import pytest
            from texts import make_text

            from prosekit.markdown import render

            SECTION = "# A *great* heading\\n\\nSee `code`, [a page](/page), {text} **bold** *thin*\\n\\n- one\\n- two"


            @pytest.mark.parametrize("sections", [3, 30])
            def test_render(benchmark, sections):
                page = "\\n\\n".join([SECTION.format(text=make_text(80))] * sections)
                assert benchmark(render, page).count("<h1>") == sections
            """,
        ),
    ),
    change(
        "Render emphasis",
        replace(
            MARKDOWN,
            "    return line\n",
            '    line = re.sub(r"\\*(.+?)\\*", r"<em>\\1</em>", line)\n    return line\n',
        ),
        append(
            "tests/test_markdown.py",
            """
            def test_stars_are_emphasis():
                assert render("a *small* step") == "<p>a <em>small</em> step</p>"
            """,
        ),
    ),
    change(
        "Render code",
        replace(
            MARKDOWN,
            "    return line\n",
            '    line = re.sub(r"`(.+?)`", r"<code>\\1</code>", line)\n    return line\n',
        ),
        append(
            "tests/test_markdown.py",
            """
            def test_backticks_are_code():
                assert render("`a < b`") == "<p><code>a &lt; b</code></p>"
            """,
        ),
    ),
    change(
        "Render links",
        replace(
            MARKDOWN,
            "    return line\n",
            '    line = re.sub(r"\\[(.+?)\\]\\((.+?)\\)", r\'<a href="\\2">\\1</a>\', line)\n    return line\n',
        ),
        append(
            "tests/test_markdown.py",
            """
            def test_a_link_has_a_text_and_an_address():
                assert render("[here](/there)") == '<p><a href="/there">here</a></p>'
            """,
        ),
    ),
    change(
        "Headings have at most six levels",
        replace(MARKDOWN, "len(block) - len(title)", "min(len(block) - len(title), 6)"),
        append(
            "tests/test_markdown.py",
            """
            @pytest.mark.parametrize("hashes", [6, 7, 12])
            def test_six_levels_are_enough(hashes):
                assert render("#" * hashes + " Deep").endswith("</h6>")
            """,
        ),
    ),
)
