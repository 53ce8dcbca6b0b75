//! The search index of the pool: derived, rebuilt from the database and followed from the log.
