"""Load tests in MLPerf inference's shapes, against any server that answers recordings."""
