//! What one `fdatasync` costs on this machine now: every durable figure stands on it.

use std::{fs::File, io, os::unix::fs::FileExt as _, time::Instant};

use crate::report::{Better, Figure, quantile};

/// Bytes written before each sync, as a small group of the log would.
const WRITTEN_BYTES: usize = 4096;
/// Syncs timed.
const SYNCS: usize = 500;
/// Length of the file, allocated and written before, so that a sync has no metadata to write.
const FILE_BYTES: usize = SYNCS * WRITTEN_BYTES;

/// p50 and p99 of a write and its `fdatasync`, in milliseconds, in the folder where the parts keep their data.
///
/// # Errors
/// When the folder for temporary files cannot be written.
pub fn figures() -> io::Result<Vec<Figure>> {
    let file: File = tempfile::tempfile()?;
    file.write_all_at(&vec![1; FILE_BYTES], 0)?;
    file.sync_all()?;
    let block = [2; WRITTEN_BYTES];
    let mut samples = Vec::with_capacity(SYNCS);
    for sync in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&block, (sync * WRITTEN_BYTES) as u64)?;
        file.sync_data()?;
        samples.push(started.elapsed().as_secs_f64() * 1e3);
    }
    samples.sort_by(f64::total_cmp);
    let p99 = quantile(&samples, 0.99);
    Ok(vec![
        Figure::new("machine", "write 4 KiB + fdatasync, p50", "ms", Better::Lower, &samples),
        Figure::new("machine", "write 4 KiB + fdatasync, p99", "ms", Better::Lower, &[p99]),
    ])
}
