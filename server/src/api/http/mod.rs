//! The HTTP face: `/federation/*` and the node's own pages.
