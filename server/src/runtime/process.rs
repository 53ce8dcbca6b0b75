//! What the system says about this process, and what it allows it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of memory resident now; `None` where the system does not say (`/proc` is Linux's).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Raises the number of files and sockets the process may have open to as many as the system allows it; returns that.
/// Most systems start a process with 1,024 and let it ask for more.
#[must_use]
pub fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    let now = if raised.is_ok() { maximum } else { current };
    now.unwrap_or(u64::MAX)
}
