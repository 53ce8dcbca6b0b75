//! Family `pool`.
