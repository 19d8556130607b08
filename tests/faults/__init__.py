"""The fault harness: the whole topology as processes, thousands of submissions, faults at random, and the count after.

    python -m tests.faults --submissions 20000 --faults 200

starts two of every role beside SeaweedFS and Valkey, pushes through both ingests, and meanwhile kills, stops, starves
and confuses them. At the end nothing may be lost and nothing be there twice.
"""
