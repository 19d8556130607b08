"""The invariants, each as a query that gives its breaches: where, what was expected, what was found.

The queries go over the tables of `doctor_facts`. `asked` holds what the doctor was asked: `settled` says that nothing
is under way, so that whatever still waits is lost.
"""

from dataclasses import dataclass

_DAY = 24 * 3600
_UNDER_WAY = "(NOT settled AND EXISTS (FROM under_way))"
"""Something is being withdrawn, so what was named at first may have gone."""
_WITHDRAWN = "(SELECT sha256 FROM withdrawals)"
_WAITS = "(m.log = 'submissions' AND m.id = s.id AND m.nonce = s.nonce)"


@dataclass(frozen=True)
class Rule:
    """What must hold, in the words of the report, and the query that finds where it does not."""

    name: str
    query: str


RULES = (
    Rule("an object is what its key says", "SELECT key, expected, found FROM unreadable"),
    Rule(
        "the public bucket holds only what is public",
        "SELECT key, 'a key that the public bucket may have', 'another' FROM unknown_keys",
    ),
    Rule(
        "no token is in the public bucket",
        "SELECT key, 'no token', 'the token of id ' || token[:12] || ', or its hash' FROM leaks",
    ),
    # --- submissions ---
    Rule(
        "a submission's id covers its content",
        """SELECT key, 'id ' || id_by_content, 'id ' || id FROM submissions
        WHERE id <> id_by_content OR key <> 'submissions/' || id[:2] || '/' || id || '.json'""",
    ),
    Rule(
        "a submission's blob is there",
        f"""SELECT s.key, format('blob {{}} of {{}} bytes', sha256, s.size_bytes),
            CASE WHEN b.size_bytes IS NULL THEN 'none' WHEN b.size_bytes <> s.size_bytes
            THEN b.size_bytes || ' bytes' ELSE 'bytes of digest ' || sha256_found END
        FROM submissions s LEFT JOIN blobs_found b USING (sha256)
        WHERE (b.size_bytes IS DISTINCT FROM s.size_bytes OR sha256_found <> sha256) AND sha256 NOT IN {_WITHDRAWN}""",
    ),
    Rule(
        "a submission's benchmark is there",
        """SELECT key, benchmark, 'none' FROM submissions
        WHERE benchmark IS NOT NULL AND benchmark NOT IN (SELECT key FROM benchmarks)""",
    ),
    Rule(
        "a submission is announced, or waits with its marker",
        f"""SELECT s.key, 'an entry in the submissions log' || if(settled, '', ' or its marker'), 'none'
        FROM submissions s, asked
        WHERE id NOT IN (SELECT id FROM announced WHERE log = 'submissions') AND sha256 NOT IN {_WITHDRAWN}
            AND (settled OR NOT EXISTS (FROM markers m WHERE {_WAITS}))""",
    ),
    # --- logs ---
    Rule(
        "an object is announced once",
        """SELECT format('log {}, {}', log, id), 'one entry', 'entries ' || string_agg(seq, ', ' ORDER BY seq)
        FROM announced GROUP BY log, id HAVING count(*) > 1""",
    ),
    Rule(
        "a log's pages lead back to entry 1",
        """SELECT d.key, if(d.first = 1, 'no page before it', 'a page before it that ends with ' || (d.first - 1)),
            coalesce(p.key, nullif(d.previous, '') || ', which is not there', 'none')
        FROM documents d LEFT JOIN documents p ON p.key = d.previous AND p.log = d.log AND p.key <> d.key
        WHERE (d.first = 1) <> (d.previous = '') OR (d.first > 1 AND p.last IS DISTINCT FROM d.first - 1)""",
    ),
    Rule(
        "a log has a head",
        """SELECT 'log ' || log, 'a head', 'only pages' FROM documents
        GROUP BY log HAVING NOT bool_or(key = format('feeds/{}/current.atom', log))""",
    ),
    Rule(
        "a log's past does not change",
        """SELECT format('log {}, entry {}', log, seq), 'the same entry wherever it stands',
            'others in ' || string_agg(document, ' and ' ORDER BY document)
        FROM entries GROUP BY log, seq
        HAVING count(*) > 1 AND count(DISTINCT hash(
            batch, id, title, key, sha256, size_bytes, media_type, encoding, project, published, updated)) > 1""",
    ),
    Rule(
        "a batch begins with the entry that it is named after",
        """SELECT format('log {}, entry {}', log, seq), format('batch {} or {}', seq, before), 'batch ' || batch
        FROM (SELECT *, lag(batch) OVER (PARTITION BY log ORDER BY seq) AS before FROM announced)
        WHERE batch <> seq AND batch IS DISTINCT FROM before""",
    ),
    Rule(
        "an entry says what its submission does",
        f"""SELECT format('log submissions, entry {{}}', seq), CASE WHEN s.id IS NULL THEN 'submission ' || e.id
                ELSE concat_ws(' ', s.project, s.sha256, s.size_bytes, s.media_type, s.encoding, s.received) END,
            CASE WHEN s.id IS NULL THEN 'none'
                ELSE concat_ws(' ', e.project, e.sha256, e.size_bytes, e.media_type, e.encoding, e.published) END
        FROM announced e LEFT JOIN submissions s USING (id)
        WHERE log = 'submissions' AND withdraws = '' AND NOT (s.id IS NULL AND e.sha256 IN {_WITHDRAWN})
            AND (s.id IS NULL OR e.key <> format('blobs/{{}}/{{}}', s.sha256[:2], s.sha256)
            OR (s.project, s.sha256, s.size_bytes, s.media_type, s.encoding, s.received)
            IS DISTINCT FROM (e.project, e.sha256, e.size_bytes, e.media_type, e.encoding, e.published))""",
    ),
    Rule(
        "no marker is older than a week and a day",
        f"""SELECT key, 'a marker younger than {8} days', ((now - made) // {_DAY}) || ' days' FROM markers, asked
        WHERE now - made > {8 * _DAY}""",
    ),
    # --- outcomes ---
    Rule(
        "an outcome is of the batch that its key says",
        """SELECT key, format('first {}, revision {}', named_first, named_revision),
            format('first {}, revision {}', first, revision)
        FROM outcomes WHERE (first, revision) <> (named_first, named_revision)""",
    ),
    Rule(
        "an outcome has a verdict for each of its batch",
        """SELECT key, format('submissions {} to {}, once each', first, last),
            format('{} verdicts over {} to {}', found, least, most)
        FROM (
            SELECT o.key, any_value(first) AS first, any_value(last) AS last, count(v.seq) AS found,
                count(DISTINCT v.seq) AS seqs, coalesce(min(v.seq), 0) AS least, coalesce(max(v.seq), 0) AS most
            FROM outcomes o LEFT JOIN verdicts v ON v.outcome = o.key GROUP BY o.key
        )
        WHERE seqs <> found OR (found > 0 AND (least < first OR most > last))
            OR found <> last - first + 1 - (
                SELECT count(*) FROM announced
                WHERE log = 'submissions' AND withdraws <> '' AND seq BETWEEN first AND last
            )""",
    ),
    Rule(
        "a verdict is of the submission that the log has there",
        """SELECT format('{}, seq {}', outcome, v.seq), coalesce(e.id, 'an entry of the submissions log'), v.id
        FROM verdicts v LEFT JOIN announced e ON e.log = 'submissions' AND e.seq = v.seq
        WHERE e.id IS DISTINCT FROM v.id""",
    ),
    Rule(
        "a submission has one outcome in a lake version",
        """SELECT format('lake v{}, seq {}', version, seq), 'one batch', string_agg(outcome, ' and ' ORDER BY outcome)
        FROM verdicts v WHERE outcome IN (SELECT key FROM newest) GROUP BY version, seq
        HAVING count(DISTINCT outcome) > 1""",
    ),
    Rule(
        "each submission ends",
        f"""SELECT format('log submissions, entry {{}}', seq), 'an outcome in lake v' || serving,
            if(settled, 'none', format('none after {{}} hours', (now - updated) // 3600))
        FROM announced e, asked WHERE log = 'submissions' AND withdraws = '' AND (settled OR now - updated > {_DAY})
            AND seq NOT IN (SELECT seq FROM verdicts WHERE version = serving)""",
    ),
    Rule(
        "revisions follow each other over the same range",
        """SELECT key, format('revision {}, {} to {}', coalesce(before + 1, 0), first, coalesce(ended, last)),
            format('revision {}, {} to {}', revision, first, last)
        FROM (SELECT *, lag(revision) OVER batch AS before, lag(last) OVER batch AS ended FROM outcomes
            WINDOW batch AS (PARTITION BY version, named_first ORDER BY named_revision))
        WHERE last <> coalesce(ended, last) OR (revision <> coalesce(before + 1, 0)
            AND (version, named_first) NOT IN (SELECT (version, named_first) FROM withdrawn))""",
    ),
    Rule(
        "an outcome knows no more than the log",
        """SELECT key, format('through {} to {}', last, most), 'through ' || through
        FROM outcomes, (SELECT coalesce(max(seq), 0) AS most FROM announced WHERE log = 'submissions')
        WHERE through < last OR through > most""",
    ),
    Rule(
        "an outcome is announced, or waits with its marker",
        """SELECT o.key, format('an entry in log outcomes-v{}', version) || if(settled, '', ' or its marker'), 'none'
        FROM outcomes o LEFT JOIN announced e ON e.log = 'outcomes-v' || version AND e.id = o.id, asked
        WHERE e.id IS NULL AND ((settled AND version = serving) OR NOT EXISTS (
            FROM markers m WHERE m.log = 'outcomes-v' || version AND m.id = o.id AND m.nonce = o.nonce))""",
    ),
    Rule(
        "an entry says what its outcome does",
        """SELECT format('log {}, entry {}', log, seq),
            if(o.key IS NULL, 'outcome ' || e.id, concat_ws(' ', o.key, o.sha256, o.size_bytes)),
            if(o.key IS NULL, 'none', concat_ws(' ', e.key, e.sha256, e.size_bytes))
        FROM announced e LEFT JOIN outcomes o ON log = 'outcomes-v' || version AND o.id = e.id
        WHERE log LIKE 'outcomes-v%' AND NOT (o.key IS NULL AND EXISTS (FROM withdrawn
                WHERE log = 'outcomes-v' || version AND outcome_id[:12] = e.id[:12] AND outcome_id > e.id))
            AND (o.key, o.sha256, o.size_bytes) IS DISTINCT FROM
            (e.key, e.sha256, e.size_bytes)""",
    ),
    Rule(
        "a checkpoint promises no more than is done",
        """SELECT c.key, 'an outcome of each submission through ' || any_value(c.seq),
            format('none of {}, the first of {}', min(e.seq), count(*))
        FROM checkpoints c JOIN announced e ON e.log = 'submissions' AND e.withdraws = '' AND e.seq <= c.seq
        WHERE version = (SELECT serving FROM asked) AND (version, e.seq) NOT IN (SELECT (version, seq) FROM verdicts)
        GROUP BY c.key""",
    ),
    Rule(
        "the lake version that serves is there",
        """SELECT 'lake/current.json', 'a version that has outcomes', 'v' || serving FROM asked
        WHERE serving > 1 AND serving NOT IN (SELECT version FROM outcomes)
            AND EXISTS (FROM announced WHERE log = 'submissions')""",
    ),
    # --- parts ---
    Rule(
        "a part is there, as its outcome says",
        """SELECT format('{}, part {}', outcome, key), concat_ws(' ', p.size_bytes, 'bytes', sha256, p.rows, 'rows'),
            if(f.key IS NULL, 'none', concat_ws(' ', f.size_bytes, 'bytes', sha256_found, f.rows, 'rows'))
        FROM parts p LEFT JOIN parts_found f USING (key)
        WHERE NOT (f.key IS NULL AND outcome IN (FROM replaced))
            AND (p.size_bytes IS DISTINCT FROM f.size_bytes OR p.sha256 <> sha256_found OR p.rows <> f.rows)""",
    ),
    Rule(
        "a part's name tells its version, table, range and digest",
        "SELECT format('{}, part {}', outcome, key), key_by_content, key FROM parts WHERE key <> key_by_content",
    ),
    Rule(
        "an outcome names a part once",
        """SELECT outcome, 'part ' || key || ' once', count(*) || ' times' FROM parts
        GROUP BY outcome, key HAVING count(*) > 1""",
    ),
    Rule(
        "an outcome counts the rows of its parts",
        """SELECT counted.outcome, format('{} rows of {}', counted.rows, counted."table"),
            format('parts of {} rows', coalesce(held.rows, 0))
        FROM (
            SELECT outcome, "table", sum(rows) AS rows
            FROM (UNPIVOT verdicts ON runs, measurements, tests INTO NAME "table" VALUE rows) GROUP BY ALL
        ) AS counted
        LEFT JOIN (SELECT outcome, "table", sum(rows) AS rows FROM parts GROUP BY ALL) AS held USING (outcome, "table")
        WHERE counted.rows <> coalesce(held.rows, 0)""",
    ),
    Rule(
        "a part holds the rows of its accepted submissions",
        """SELECT format('{}, seq {}', coalesce(c.outcome, h.outcome), coalesce(c.seq, h.seq)),
            format('{} rows of {}', coalesce(c.rows, 0), coalesce(c."table", h."table")),
            coalesce(h.rows, 0) || ' rows'
        FROM (
            SELECT outcome, seq, "table", rows FROM (UNPIVOT verdicts ON runs, measurements, tests
            INTO NAME "table" VALUE rows) WHERE rows > 0
        ) AS c FULL JOIN (
            SELECT outcome, seq, "table", sum(part_rows.rows) AS rows
            FROM parts JOIN part_rows USING (key) WHERE "table" <> 'run_chunks' GROUP BY ALL
        ) AS h USING (outcome, seq, "table")
        WHERE (SELECT deep FROM asked) AND c.rows IS DISTINCT FROM h.rows
            AND coalesce(c.outcome, h.outcome) NOT IN (FROM replaced)""",
    ),
    # --- catalogs ---
    Rule(
        "a catalog is of the generation that its key says, and the next holds no less",
        """SELECT key, format('v{}, generation {}, through at least {}', named_version, named_generation,
                coalesce(before, 0)), format('v{}, generation {}, through {}', version, generation, through)
        FROM (
            SELECT *, lag(through) OVER (PARTITION BY named_version ORDER BY named_generation) AS before FROM catalogs
        )
        WHERE (version, generation) <> (named_version, named_generation) OR through < coalesce(before, 0)""",
    ),
    Rule(
        "current.json names a catalog that is there",
        f"""SELECT key, 'a catalog', named || ', which is not there' FROM current_catalogs, asked
        WHERE named NOT IN (SELECT key FROM catalogs) AND NOT {_UNDER_WAY}""",
    ),
    Rule(
        "a catalog holds no more outcomes than the log",
        """SELECT c.key, 'through at most ' || coalesce(max(seq), 0), 'through ' || any_value(through)
        FROM newest_catalogs c LEFT JOIN announced ON log = 'outcomes-v' || named_version
        GROUP BY c.key, through HAVING through > coalesce(max(seq), 0)""",
    ),
    Rule(
        "a file is there, as the newest catalog says",
        f"""SELECT format('{{}}, file {{}}', catalog, f.key),
            concat_ws(' ', f.size_bytes, 'bytes', f.sha256, f.rows, 'rows'),
            if(found.key IS NULL, 'none', concat_ws(' ', found.size_bytes, 'bytes', sha256_found, found.rows, 'rows'))
        FROM catalog_files f JOIN newest_catalogs c ON f.catalog = c.key
        LEFT JOIN parts_found found ON found.key = f.key, asked
        WHERE NOT (found.key IS NULL AND {_UNDER_WAY})
            AND (f.size_bytes IS DISTINCT FROM found.size_bytes OR f.sha256 <> sha256_found OR f.rows <> found.rows
            OR f.digest16_by_key <> f.sha256[:16])""",
    ),
    Rule(
        "the newest catalog counts the rows of the outcomes that it holds",
        f"""SELECT format('{{}}, {{}}', key, "table"), sum(expected) || ' rows', sum(held) || ' rows'
        FROM (
            SELECT catalog AS key, "table", 0 AS expected, rows AS held FROM catalog_files
            UNION ALL BY NAME
            SELECT c.key, "table", p.rows AS expected, 0 AS held
            FROM newest_catalogs c JOIN held_outcomes o ON o.catalog = c.key JOIN parts p USING (outcome)
        ) WHERE key IN (SELECT key FROM newest_catalogs) AND NOT (SELECT {_UNDER_WAY} FROM asked)
        GROUP BY key, "table" HAVING sum(expected) <> sum(held)""",
    ),
    Rule(
        "each row is in one file of the newest catalog",
        f"""SELECT format('{{}}, {{}} of seq {{}}', key, "table", seq), sum(expected) || ' rows', sum(held) || ' rows'
        FROM (
            SELECT c.key, "table", seq, 0 AS expected, r.rows AS held
            FROM newest_catalogs c JOIN catalog_files f ON f.catalog = c.key JOIN part_rows r ON r.key = f.key
            UNION ALL BY NAME
            SELECT c.key, "table", seq, r.rows AS expected, 0 AS held
            FROM newest_catalogs c JOIN held_outcomes o ON o.catalog = c.key JOIN parts p USING (outcome)
            JOIN part_rows r ON r.key = p.key
        ) WHERE (SELECT deep AND NOT {_UNDER_WAY} FROM asked)
        GROUP BY key, "table", seq HAVING sum(expected) <> sum(held)""",
    ),
    # --- withdrawals ---
    Rule(
        "a withdrawal is announced, or waits with its marker",
        """SELECT w.key, 'an entry in the submissions log' || if(settled, '', ' or its marker'), 'none'
        FROM withdrawals w, asked
        WHERE NOT EXISTS (FROM announced e WHERE e.log = 'submissions' AND e.id = 'withdrawal-' || w.sha256)
            AND (settled OR (w.sha256 NOT IN (FROM under_way) AND NOT EXISTS (FROM markers m WHERE
                m.log = 'submissions' AND m.id = 'withdrawal-' || w.sha256 AND m.nonce = w.nonce)))""",
    ),
    Rule(
        "an entry says what its withdrawal does",
        """SELECT format('log submissions, entry {}', seq),
            if(w.key IS NULL, 'the withdrawal of ' || withdraws, concat_ws(' ', w.key, record_sha256, w.size_bytes)),
            if(w.key IS NULL, 'none', concat_ws(' ', e.key, e.sha256, e.size_bytes))
        FROM announced e LEFT JOIN withdrawals w ON w.sha256 = withdraws
        WHERE log = 'submissions' AND withdraws <> ''
            AND (w.key, record_sha256, w.size_bytes) IS DISTINCT FROM (e.key, e.sha256, e.size_bytes)""",
    ),
    Rule(
        "a withdrawal is carried out",
        f"""SELECT key, 'a withdrawal of which nothing is left', if(settled, 'one under way',
            format('one under way for {{}} hours', (now - made) // 3600))
        FROM notes, asked WHERE settled OR now - made > {_DAY}""",
    ),
    Rule(
        "a withdrawn blob is gone, with its submissions",
        """SELECT key, 'nothing, since it is withdrawn', 'an object' FROM left_over, asked
        WHERE settled OR (sha256 NOT IN (FROM under_way)
            AND key NOT IN (SELECT format('submissions/{}/{}.json', id[:2], id) FROM markers))""",
    ),
    Rule(
        "a submission is withdrawn in every lake version, if its blob is, and has no rows",
        """SELECT format('{}, seq {}', outcome, seq), 'withdrawn', verdict FROM withdrawn
        WHERE verdict <> 'withdrawn' AND NOT under_way
        UNION ALL SELECT format('{}, seq {}', outcome, seq), 'a withdrawal', 'none' FROM verdicts v
        WHERE verdict = 'withdrawn' AND NOT EXISTS (FROM withdrawn w WHERE w.seq = v.seq)
        UNION ALL SELECT format('{}, seq {}', outcome, seq), 'no rows', runs + measurements + tests || ' rows'
        FROM verdicts WHERE verdict = 'withdrawn' AND runs + measurements + tests > 0
        UNION ALL SELECT format('{}, seq {}', key, seq), 'no rows', 'some' FROM left_over_rows r, asked
        WHERE settled OR NOT EXISTS (FROM announced e JOIN under_way u USING (sha256)
            WHERE e.log = 'submissions' AND e.seq = r.seq)""",
    ),
    Rule(
        "outcomes from before a withdrawal are gone",
        """SELECT DISTINCT o.key, 'nothing, since ' || outcome || ' withdraws some of it', 'an outcome'
        FROM withdrawn w JOIN outcomes o ON o.version = w.version AND o.named_first = w.named_first
        WHERE o.named_revision < w.named_revision AND verdict = 'withdrawn' AND NOT under_way""",
    ),
    Rule(
        "a catalog holds nothing that is withdrawn",
        """SELECT DISTINCT c.key, format('revision {} of batch {}', w.named_revision, w.named_first),
            format('revision {}', coalesce(r.revision, 0))
        FROM withdrawn w JOIN catalogs c ON c.named_version = w.version
        LEFT JOIN catalog_revisions r ON r.catalog = c.key AND r.first = w.named_first
        WHERE w.named_revision > 0 AND coalesce(r.revision, 0) < w.named_revision AND NOT under_way""",
    ),
    Rule(
        "a snapshot holds nothing that is withdrawn",
        """SELECT DISTINCT s.key, format('outcomes through {} at least', e.seq), 'through ' || outcomes_seq
        FROM withdrawn w JOIN snapshots s ON s.version = w.version
        JOIN announced e ON e.log = 'outcomes-v' || w.version AND e.id = w.outcome_id
        WHERE w.named_revision > 0 AND s.outcomes_seq < e.seq AND NOT under_way""",
    ),
)
