//! Compiled kernels.

use super::Checks;
use crate::error::{Error, Result};
use crate::kernel::{AnyKernel, PipelineKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use wgpu::{
    BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry, BindingType, BufferBindingType, ComputePipeline,
    ComputePipelineDescriptor, Device, ErrorFilter, PipelineCompilationOptions, PipelineLayoutDescriptor, ShaderModuleDescriptor,
    ShaderRuntimeChecks, ShaderSource, ShaderStages,
};

/// A compiled kernel.
pub(super) struct Pipeline {
    pub main: ComputePipeline,
    pub finish: Option<ComputePipeline>,
    pub layout: BindGroupLayout,
    pub label: String,
}

/// Compiled kernels by everything that their code depends on.
#[derive(Default)]
pub(super) struct Pipelines(Mutex<HashMap<PipelineKey, Arc<Pipeline>>>);

impl Pipelines {
    /// The pipeline of `k`, compiled at its first use.
    pub fn get(&self, device: &Device, k: &dyn AnyKernel, two_stages: bool, checks: Checks) -> Result<Arc<Pipeline>> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = k.pipeline_key();
        if let Some(p) = map.get(&key) {
            return Ok(p.clone());
        }
        let compiled = Arc::new(compile(device, k, two_stages, checks)?);
        map.insert(key, compiled.clone());
        Ok(compiled)
    }
}

fn entry(binding: usize, ty: BufferBindingType, has_dynamic_offset: bool) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
        count: None,
    }
}

fn compile(device: &Device, k: &dyn AnyKernel, two_stages: bool, checks: Checks) -> Result<Pipeline> {
    let label = k.label();
    let scopes = [ErrorFilter::Validation, ErrorFilter::Internal, ErrorFilter::OutOfMemory].map(|f| device.push_error_scope(f));
    let source = ShaderModuleDescriptor { label: Some(&label), source: ShaderSource::Wgsl(k.source().into()) };
    let module = match checks {
        Checks::Full => device.create_shader_module(source),
        // SAFETY: the shaders are this crate's own. Their loops end, their divisors are not zero, and parity runs each of them with
        // full checks; accesses out of bounds are still caught here.
        Checks::Bounds => unsafe {
            let bounds_checks = ShaderRuntimeChecks { bounds_checks: true, ..ShaderRuntimeChecks::unchecked() };
            device.create_shader_module_trusted(source, bounds_checks)
        },
        // SAFETY: as above, and whoever asked for it vouches for the bounds.
        Checks::None => unsafe { device.create_shader_module_trusted(source, ShaderRuntimeChecks::unchecked()) },
    };
    let mut entries = vec![entry(0, BufferBindingType::Uniform, true)];
    entries.extend(k.bindings().iter().enumerate().map(|(i, b)| {
        let ty = BufferBindingType::Storage { read_only: !b.1.is_output() };
        entry(i + 1, ty, false)
    }));
    if two_stages {
        entries.push(entry(entries.len(), BufferBindingType::Storage { read_only: false }, false));
    }
    let layout = device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: Some(&label), entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&PipelineLayoutDescriptor {
        label: Some(&label),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let overrides = k.overrides();
    let pipeline = |name| {
        device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(name),
            // Kernels write shared memory before they read it.
            compilation_options: PipelineCompilationOptions { constants: &overrides, zero_initialize_workgroup_memory: false },
            cache: None,
        })
    };
    let (main, finish) = (pipeline("main"), two_stages.then(|| pipeline("finish")));
    let errors = scopes.into_iter().rev().filter_map(|s| pollster::block_on(s.pop())).collect::<Vec<_>>();
    match errors.first() {
        Some(e) => Err(Error::device(format!("kernel {label} does not compile: {e}"))),
        None => Ok(Pipeline { main, finish, layout, label }),
    }
}
