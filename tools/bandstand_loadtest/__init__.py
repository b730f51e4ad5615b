"""Load tests with the scenarios of MLPerf inference, for Bandstand over HTTP and Triton."""
