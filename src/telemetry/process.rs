//! What the process takes of the machine, as the kernel tells it: under the names that every dashboard knows.
//!
//! Where the kernel does not tell it so (only Linux has `/proc`), it is left out.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Reads it whenever somebody asks.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut show = |name: &str, help: &str, metric: &dyn Shown| metric.show(&mut encoder, name, help);
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        show(
            "process_cpu_seconds",
            "Time that the process has spent on processors, user and system.",
            &Total(used),
        )?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(bytes) = bytes(&status, "VmRSS:") {
            show("process_resident_memory_bytes", "Memory of the process that is in RAM.", &Now(bytes))?;
        }
        if let Some(bytes) = bytes(&status, "VmSize:") {
            show("process_virtual_memory_bytes", "Address space of the process.", &Now(bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is for this look.
            let open = open.count().saturating_sub(1) as u64;
            show("process_open_fds", "File descriptors that are open, connections included.", &Now(open))?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            show("process_max_fds", "File descriptors that may be open.", &Now(most))?;
        }
        Ok(())
    }
}

/// A value with its type.
trait Shown {
    fn show(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

struct Total(f64);
struct Now(u64);

impl Shown for Total {
    fn show(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        ConstCounter::new(self.0).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }
}

impl Shown for Now {
    fn show(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        ConstGauge::new(self.0).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

/// A line of the status of a process, which the kernel gives in KiB.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_in_bytes() {
        let status = "Name:\tsignalbox\nVmSize:\t  123 kB\nVmRSS:\t     2048 kB\n";
        assert_eq!((bytes(status, "VmRSS:"), bytes(status, "VmSize:")), (Some(2_097_152), Some(125_952)));
        assert_eq!(bytes(status, "VmSwap:"), None);
    }
}
