window.BENCHMARK_DATA = {
  "lastUpdate": 1574927128603,
  "repoUrl": "https://github.com/example/repo",
  "entries": {
    "Rust / core~": [
      {
        "commit": {
          "author": {"email": "a.person@example.com", "name": "A Person", "username": "aperson"},
          "committer": {"email": "a.person@example.com", "name": "A Person", "username": "aperson"},
          "distinct": false, "id": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "tree_id": "x", "url": "https://example.com",
          "message": "Count faster \ud83d\n\nCo-authored-by: B Person <b.person@example.com>",
          "timestamp": "2019-11-28T08:45:00+01:00"
        },
        "date": 1574927127603, "tool": "cargo",
        "benches": [
          {"name": "fib_10", "range": "± 20", "unit": "ns/iter", "value": 100},
          {"name": "fib_20", "range": "± 1.5", "unit": " ns/iter\n", "value": "37,174.5"}
        ]
      },
      {
        "commit": {"id": "1a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "message": "Stop", "timestamp": "dummy stamp"},
        "date": 1574927127, "tool": "cargo",
        "benches": [
          {"name": "fib_10", "range": "± 20", "unit": "ns/iter", "value": "fast"},
          {"name": 7, "unit": ["ns"], "value": true},
          {"name": "fib_30"}
        ]
      },
      {
        "commit": {"id": "2a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "message": "Go on"},
        "date": 1574927128, "tool": "cargo",
        "benches": [{"name": "fib_10", "unit": "ns/iter", "value": 101}, {"name": "fib_20", "unit": "ns/iter", "value": null}]
      },
      "no entry",
      {"commit": null, "date": "soon", "benches": {}}
    ],
    "Go": [
      {
        "commit": {"id": "2a1b2c3d4e5f60718293a4b5c6d7e8f901234567"}, "date": "2019-11-28T07:45:28Z", "tool": "go",
        "benches": [
          {"name": "BenchmarkFib", "unit": "ns/op\t     120 B/op\t       2 allocs/op", "value": 40, "extra": "100 times\n8 procs"},
          {"name": "BenchmarkFib", "unit": "ns/op\t     120 B/op\t       2 allocs/op", "value": 50, "extra": "100 times\n8 procs"},
          {"name": "BenchmarkFib", "unit": "ns/op\t     150 B/op\t       2 allocs/op", "value": 90, "extra": "100 times\n8 procs"},
          {"name": "BenchmarkCopy", "unit": "MB/s", "value": 812.5},
          {"name": "BenchmarkFib - B/op", "unit": "B/op", "value": 121}
        ]
      }
    ],
    "Others": [
      {"date": 1574927130000, "tool": "jmh", "benches": [{"name": "a.B.c", "unit": "ops/s", "value": 5}, {"name": "a.B.d", "unit": "us/op", "value": 5}]},
      {"date": 1574927130000, "tool": "pytest", "benches": [{"name": "t.py::t", "unit": "iter/sec", "value": 5, "range": "stddev: 0.1", "extra": "mean: 2 sec"}]},
      {"date": 1574927130000, "tool": "benchmarkdotnet", "benches": [{"name": "N.C.M", "unit": "ns", "value": 5, "range": "± 0.5"}]},
      {"date": 1574927130000, "tool": "benchmarkluau", "benches": [{"name": "sort", "unit": "5ms", "value": 5.25, "range": "±1%"}]},
      {"date": 1574927130000, "tool": "customBiggerIsBetter", "benches": [{"name": "Free memory", "unit": "Mega\u0062ytes", "value": 150}]},
      {"date": 1574927130000, "tool": "newtool", "benches": [{"name": "x", "unit": "ops/s", "value": 1}]}
    ]
  }
};
