//! Time, chance, threads, sockets and signals: the only place that asks the system for them.
