"""Hold a trace against the truth: run a workload under record, freeze it at random instants, compare each export."""
