//! Time by kernel, from the adapter's own clock where it has one.

use std::collections::BTreeMap;
use wgpu::{
    Buffer, BufferDescriptor, BufferUsages, CommandEncoder, ComputePassTimestampWrites, Device, MapMode, QuerySet,
    QuerySetDescriptor, QueryType,
};

/// What [`super::Gpu::profile`] has gathered.
#[derive(Default)]
pub(super) struct Profile {
    pub on: bool,
    open: Option<Open>,
    submitted: Vec<Submitted>,
    totals: BTreeMap<String, (u64, f64)>,
}

/// The launches of the open encoder.
struct Open {
    queries: QuerySet,
    labels: Vec<String>,
}

/// The launches of a submission whose times have not been read yet.
struct Submitted {
    times: Buffer,
    labels: Vec<String>,
}

impl Profile {
    /// Where the pass of the next launch writes its times; `capacity` launches fit into a submission.
    pub fn stamp(&mut self, device: &Device, label: &str, capacity: usize) -> Option<ComputePassTimestampWrites<'_>> {
        let open = self.open.get_or_insert_with(|| Open {
            queries: device.create_query_set(&QuerySetDescriptor {
                label: Some("profile"),
                ty: QueryType::Timestamp,
                count: 2 * capacity as u32,
            }),
            labels: Vec::new(),
        });
        let i = 2 * open.labels.len() as u32;
        open.labels.push(label.to_string());
        Some(ComputePassTimestampWrites {
            query_set: &open.queries,
            beginning_of_pass_write_index: Some(i),
            end_of_pass_write_index: Some(i + 1),
        })
    }
    /// Forgets the launches of an encoder that was dropped.
    pub fn abandon(&mut self) {
        self.open = None;
    }
    /// Adds a launch timed by the host.
    pub fn add(&mut self, label: &str, seconds: f64) {
        let total = self.totals.entry(label.to_string()).or_default();
        total.0 += 1;
        total.1 += seconds;
    }
    /// Encodes the copy of the times before the encoder is submitted.
    pub fn finish(&mut self, device: &Device, encoder: &mut CommandEncoder) {
        let Some(Open { queries, labels }) = self.open.take() else { return };
        let size = 16 * labels.len() as u64;
        let buffer = |usage| device.create_buffer(&BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let resolved = buffer(BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        let times = buffer(BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        encoder.resolve_query_set(&queries, 0..2 * labels.len() as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &times, 0, size);
        self.submitted.push(Submitted { times, labels });
    }
    /// Starts mapping the times; poll, then [`collect`](Self::collect).
    pub fn map(&self) {
        self.submitted.iter().for_each(|s| s.times.map_async(MapMode::Read, .., |_| ()));
    }
    /// Adds up what is mapped and returns it: label, launches, seconds; the longest first.
    pub fn collect(&mut self, period_ns: f32) -> Vec<(String, u64, f64)> {
        for s in std::mem::take(&mut self.submitted) {
            if let Ok(view) = s.times.get_mapped_range(..) {
                let ticks: Vec<u64> = view.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
                for (label, t) in s.labels.iter().zip(ticks.chunks_exact(2)) {
                    self.add(label, t[1].saturating_sub(t[0]) as f64 * f64::from(period_ns) * 1e-9);
                }
            }
        }
        let mut rows: Vec<_> = std::mem::take(&mut self.totals).into_iter().map(|(label, (n, s))| (label, n, s)).collect();
        rows.sort_by(|a, b| b.2.total_cmp(&a.2));
        rows
    }
}
