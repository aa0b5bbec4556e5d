//! The adapters of this machine, as `spikemix devices` lists them.

use serde::Serialize;
use wgpu::{Adapter, Backends, DeviceType, Features, Instance, InstanceDescriptor, InstanceFlags};

/// A row of `spikemix devices`.
#[derive(Clone, Debug, Serialize)]
pub struct AdapterRow {
    /// The N of `gpu:N`.
    pub index: usize,
    /// The card, or the software renderer.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// Whether shaders run on the processor: for tests, never chosen by `auto`.
    pub software: bool,
    /// The driver and its version.
    pub driver: String,
    /// Bytes that one tensor of a kernel may have.
    pub max_binding_bytes: u64,
    /// Bytes that one buffer may have.
    pub max_buffer_bytes: u64,
    /// Tensors that one kernel may take and give.
    pub max_storage_buffers: u32,
    /// Invocations of a workgroup.
    pub max_workgroup: u32,
    /// Bytes that a workgroup shares.
    pub workgroup_memory_bytes: u32,
    /// Smallest and largest subgroup.
    pub subgroup: [u32; 2],
    /// What else it can do, of what kernels might use.
    pub features: Vec<String>,
}

/// The adapters in the order of their numbers. Without a driver, or without a Vulkan library at all, there are none.
pub(super) fn enumerate() -> Vec<Adapter> {
    // No validation layers, and no extra dispatch for each indirect one; `WGPU_VALIDATION` and its neighbours switch them on.
    let flags = InstanceFlags::empty().with_env();
    let of = |backends: Backends| {
        if (backends & Instance::enabled_backend_features()).is_empty() {
            return Vec::new();
        }
        let instance = Instance::new(InstanceDescriptor { backends, flags, ..InstanceDescriptor::new_without_display_handle() });
        pollster::block_on(instance.enumerate_adapters(backends))
    };
    // OpenGL shows the same cards again, and worse; it is for machines that have nothing else.
    let first = of(Backends::PRIMARY);
    if first.is_empty() { of(Backends::GL) } else { first }
}

/// How good an adapter of this kind is, best first; none for software.
pub(super) fn rank(kind: DeviceType) -> Option<u8> {
    match kind {
        DeviceType::DiscreteGpu => Some(0),
        DeviceType::IntegratedGpu => Some(1),
        DeviceType::VirtualGpu => Some(2),
        DeviceType::Other => Some(3),
        DeviceType::Cpu => None,
    }
}

/// Optional features worth showing.
const SHOWN: &[(Features, &str)] = &[
    (Features::TIMESTAMP_QUERY, "timestamps"),
    (Features::SHADER_F16, "f16"),
    (Features::SUBGROUP, "subgroups"),
    (Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative-matrix"),
];

fn row(index: usize, adapter: &Adapter) -> AdapterRow {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    AdapterRow {
        index,
        name: info.name,
        backend: info.backend.to_str().to_string(),
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete",
            DeviceType::IntegratedGpu => "integrated",
            DeviceType::VirtualGpu => "virtual",
            DeviceType::Cpu => "software",
            DeviceType::Other => "other",
        }
        .to_string(),
        software: info.device_type == DeviceType::Cpu,
        driver: [info.driver, info.driver_info].join(" ").trim().to_string(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        max_workgroup: limits.max_compute_invocations_per_workgroup,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        subgroup: [info.subgroup_min_size, info.subgroup_max_size],
        features: SHOWN.iter().filter(|f| features.contains(f.0)).map(|f| f.1.to_string()).collect(),
    }
}

/// Every adapter of this machine; software ones are marked.
pub fn adapters() -> Vec<AdapterRow> {
    enumerate().iter().enumerate().map(|(i, a)| row(i, a)).collect()
}
