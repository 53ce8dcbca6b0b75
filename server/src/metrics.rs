//! What the node counts, each metric with its help.
