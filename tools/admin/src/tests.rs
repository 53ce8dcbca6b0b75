//! The tree is whole: every leaf has an example in its help and a schema for its JSON.
