//! GPUs through wgpu: Vulkan, Metal and Direct3D 12, and OpenGL where there is nothing better.
//!
//! Launches are encoded into one open encoder and submitted at a read or when enough of them have gathered, never one by one. Tensors
//! live in pooled buffers ([`pool`]), uniforms in one small buffer that each submission rewrites, and a kernel is compiled at its first
//! launch ([`pipeline`]). A launch whose size is a count on the device ([`Counted`]) is dispatched indirectly. What wgpu reports asynchronously (validation, memory, a lost device) is recorded and comes back as an error of
//! the next call.

mod adapters;
mod pipeline;
mod pool;
mod profile;

use super::{Held, Storage};
use crate::error::{Error, Result};
use crate::kernel::grid::{Grid, GridU};
use crate::kernel::{AnyKernel, Counted};
use pipeline::{Pipeline, Pipelines};
use pool::Pool;
use profile::Profile;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use wgpu::{
    Adapter, BindGroupDescriptor, BindGroupEntry, BindingResource, Buffer, BufferBinding, BufferDescriptor, BufferUsages,
    CommandEncoder, ComputePass, ComputePassDescriptor, Device, DeviceDescriptor, DownlevelFlags, Features, Limits, MapMode,
    PollType, Queue, SubmissionIndex,
};

pub use adapters::{AdapterRow, adapters};
pub use pool::GpuBuf;

/// Launches that are submitted together.
const LAUNCHES: usize = 64;
/// Bytes bound by launches, and bytes uploaded, after which the encoder is submitted even so: no single submission should run long
/// enough for an operating system to think that the card hangs.
const BOUND_BYTES: u64 = 8 << 30;
const UPLOAD_BYTES: u64 = 64 << 20;
/// Submissions in flight before a launch waits for the oldest.
const IN_FLIGHT: usize = 8;
/// A read-back of more bytes than this does not keep its staging buffer.
const STAGING_BYTES: u64 = 16 << 20;

/// What generated code checks at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Everything that WebGPU demands, for parity runs.
    Full,
    /// Bounds of buffers, which most drivers do at no cost; neither loops nor divisors. The default.
    Bounds,
    /// Nothing.
    None,
}

/// An opened adapter.
pub struct Gpu {
    device: Device,
    queue: Queue,
    name: String,
    backend: &'static str,
    software: bool,
    limits: Limits,
    checks: Checks,
    timestamps: bool,
    /// Whether launches can be as large as a buffer says.
    indirect: bool,
    pool: Arc<Pool>,
    pipelines: Pipelines,
    uniforms: Buffer,
    uniform_stride: usize,
    state: Mutex<State>,
    staging: Mutex<Option<Buffer>>,
    launches: AtomicU64,
    reads: AtomicU64,
    fault: Arc<Fault>,
}

/// What wgpu reported outside of any call.
#[derive(Default)]
struct Fault {
    any: AtomicBool,
    lost: AtomicBool,
    message: Mutex<Option<String>>,
}

impl Fault {
    fn record(&self, message: String, lost: bool) {
        // The first of a series names the cause; those that follow are its consequences.
        self.message.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        self.lost.fetch_or(lost, Ordering::SeqCst);
        self.any.store(true, Ordering::SeqCst);
    }
    fn take(&self) -> Option<String> {
        if !self.any.load(Ordering::SeqCst) {
            return None;
        }
        let mut message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lost.load(Ordering::SeqCst) {
            return message.clone();
        }
        self.any.store(false, Ordering::SeqCst);
        message.take()
    }
}

/// What is being encoded.
#[derive(Default)]
struct State {
    // Declared before the encoder, for a pass must end first.
    pass: Option<ComputePass<'static>>,
    encoder: Option<CommandEncoder>,
    /// The bytes of [`Gpu::uniforms`] for this submission.
    uniforms: Vec<u8>,
    launches: usize,
    bound: u64,
    uploaded: u64,
    in_flight: VecDeque<SubmissionIndex>,
    profile: Profile,
}

/// The workgroups of a stage.
#[derive(Clone, Copy)]
enum Groups<'a> {
    /// In each direction.
    Fixed([u32; 2]),
    /// As [`Grid`] has written them there.
    Counted(&'a Buffer),
}

impl State {
    fn encoder(&mut self, device: &Device) -> &mut CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| device.create_command_encoder(&Default::default()))
    }
    /// Forgets what is being encoded, after an error.
    fn abandon(&mut self) {
        let (in_flight, mut profile) = (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.profile));
        profile.abandon();
        self.pass = None;
        *self = State { in_flight, profile, ..State::default() };
    }
}

impl Gpu {
    /// The first adapter that is a real GPU: discrete, then integrated, then virtual; never a software one.
    ///
    /// # Errors
    /// The adapter is there but gives no device.
    pub fn first_real() -> Result<Option<Gpu>> {
        let ranked = adapters::enumerate().into_iter().filter_map(|a| adapters::rank(a.get_info().device_type).map(|r| (r, a)));
        ranked.min_by_key(|a| a.0).map(|a| Gpu::new(&a.1, Checks::Bounds)).transpose()
    }

    /// Opens adapter `n`, software or not.
    ///
    /// # Errors
    /// There is no such adapter, or it gives no device.
    pub fn open(n: usize) -> Result<Gpu> {
        Gpu::open_with(n, Checks::Bounds)
    }

    /// Opens adapter `n` with chosen run-time checks.
    ///
    /// # Errors
    /// As [`Gpu::open`].
    pub fn open_with(n: usize, checks: Checks) -> Result<Gpu> {
        let all = adapters::enumerate();
        let count = all.len();
        match all.get(n) {
            Some(adapter) => Gpu::new(adapter, checks),
            None => Err(Error::device(match count {
                0 => format!("there is no adapter {n}: no graphics driver was found on this machine"),
                _ => format!("there is no adapter {n}: `spikemix devices` lists 0 to {}", count - 1),
            })),
        }
    }

    fn new(adapter: &Adapter, checks: Checks) -> Result<Gpu> {
        let info = adapter.get_info();
        let features = adapter.features() & Features::TIMESTAMP_QUERY;
        let (device, queue) = pollster::block_on(adapter.request_device(&DeviceDescriptor {
            label: Some("spikemix"),
            required_features: features,
            required_limits: adapter.limits(),
            ..Default::default()
        }))
        .map_err(|e| Error::device(format!("{} gives no device: {e}", info.name)))?;
        let fault = Arc::new(Fault::default());
        let seen = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            let message = match e {
                wgpu::Error::OutOfMemory { .. } => "out of GPU memory; use a smaller batch".to_string(),
                // One line: wgpu lists causes below each other.
                e => e.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
            };
            seen.record(message, false);
        }));
        let seen = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                seen.record(format!("the GPU was lost: {message}"), true);
            }
        });
        let limits = device.limits();
        let indirect = adapter.get_downlevel_capabilities().flags.contains(DownlevelFlags::INDIRECT_EXECUTION);
        // 256 bytes hold any kernel's uniform, and meet every adapter's demand on alignment.
        let uniform_stride = (limits.min_uniform_buffer_offset_alignment as usize).max(256);
        let uniforms = device.create_buffer(&BufferDescriptor {
            label: Some("uniforms"),
            size: (uniform_stride * LAUNCHES) as u64,
            usage: BufferUsages::UNIFORM | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let gpu = Gpu {
            name: info.name,
            backend: info.backend.to_str(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            checks,
            timestamps: features.contains(Features::TIMESTAMP_QUERY),
            pool: Arc::new(Pool::new(limits.max_buffer_size, indirect)),
            indirect,
            limits,
            pipelines: Pipelines::default(),
            uniforms,
            uniform_stride,
            state: Mutex::default(),
            staging: Mutex::default(),
            launches: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            fault,
            device,
            queue,
        };
        gpu.healthy()?;
        Ok(gpu)
    }

    /// What a person calls it.
    pub fn describe(&self) -> String {
        format!("{} ({}{})", self.name, self.backend, if self.software { ", software" } else { "" })
    }

    /// Whether it is a renderer on the CPU.
    pub fn is_software(&self) -> bool {
        self.software
    }

    /// Launches since the device was opened.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// Buffers read back since the device was opened.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Bytes of buffers in use and bytes kept for reuse.
    pub fn memory(&self) -> [u64; 2] {
        self.pool.bytes()
    }

    /// Bytes of buffers in use now and at most.
    pub(in crate::device) fn held(&self) -> Held {
        self.pool.held()
    }
    pub(in crate::device) fn reset_peak(&self) {
        self.pool.reset_peak();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a half-made launch, whose buffers nobody holds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error that wgpu has reported since the last call, if any.
    fn healthy(&self) -> Result<()> {
        self.fault.take().map_or(Ok(()), |message| Err(Error::device(format!("{}: {message}", self.name))))
    }

    /// [`Self::healthy`], and after an error what was being encoded is dropped: it is no longer valid.
    fn check(&self, state: &mut State) -> Result<()> {
        self.healthy().inspect_err(|_| state.abandon())
    }

    /// A buffer, or the reason why there is none; when memory is out, once more after giving back what is idle.
    fn buffer(&self, state: &mut State, words: usize, upload: bool) -> Result<GpuBuf> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buf = self.pool.take(&self.device, words, upload);
        if pollster::block_on(scope.pop()).is_none() {
            return Ok(buf);
        }
        // Dropping it puts it into the pool, which is emptied next.
        drop(buf);
        self.submit(state)?;
        self.wait(None)?;
        self.pool.clear();
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buf = self.pool.take(&self.device, words, upload);
        if pollster::block_on(scope.pop()).is_none() {
            return Ok(buf);
        }
        drop(buf);
        self.pool.clear();
        let [live, _] = self.pool.bytes();
        Err(Error::device(format!(
            "{}: out of memory: {} bytes wanted beside {live} in use; use a smaller batch",
            self.name,
            words as u64 * 4
        )))
    }

    /// Queues a launch of `k` with the uniform `u`; returns its outputs, of `outputs` words each.
    pub fn launch(&self, k: &dyn AnyKernel, u: &[u8], inputs: &[&Storage], outputs: &[usize]) -> Result<Vec<Storage>> {
        let inputs = inputs
            .iter()
            .map(|s| match s {
                Storage::Gpu(b) if b.is_from(&self.pool) => Ok(b),
                Storage::Gpu(_) => {
                    Err(Error::device(format!("{}: a buffer of another GPU was given to {}", k.label(), self.name)))
                }
                Storage::Cpu(_) => Err(Error::device(format!("{}: a buffer in memory was given to {}", k.label(), self.name))),
            })
            .collect::<Result<Vec<_>>>()?;
        let finish = k.finish(u);
        let max = self.limits.max_storage_buffers_per_shader_stage as usize;
        let n = k.bindings().len() + usize::from(finish.is_some());
        if n > max {
            return Err(Error::device(format!("{}: the kernel needs {n} buffers and {} has {max}", k.label(), self.name)));
        }
        let binding = self.limits.max_storage_buffer_binding_size;
        let words = inputs.iter().map(|b| b.len()).chain(outputs.iter().copied()).chain(finish.map(|f| f[0])).max().unwrap_or(0);
        if words as u64 * 4 > binding {
            let bytes = words as u64 * 4;
            return Err(Error::device(format!(
                "{}: a tensor of {bytes} bytes is beyond the {binding} bytes that {} binds; use a smaller batch",
                k.label(),
                self.name
            )));
        }
        let threads = k.threads(u);
        let counted = k.counted(u).filter(|_| self.indirect && threads > 0);
        let counted = counted.map(|c| self.counted(k, c, inputs[c.input])).transpose()?;
        let most = self.grid(k, threads)?;
        let main = counted.as_ref().map_or(Groups::Fixed(most), |grid| Groups::Counted(&grid.buffer));
        let grids = [main, Groups::Fixed(self.grid(k, finish.map_or(0, |f| f[1]))?)];
        let pipeline = self.pipelines.get(&self.device, k, finish.is_some(), self.checks)?;

        let mut state = self.lock();
        let state = &mut *state;
        let mut bufs = outputs.iter().map(|&n| self.buffer(state, n, false)).collect::<Result<Vec<_>>>()?;
        if k.cleared() {
            let encoder = state.encoder(&self.device);
            bufs.iter().filter(|b| !b.is_empty()).for_each(|b| encoder.clear_buffer(&b.buffer, 0, Some(b.len() as u64 * 4)));
        }
        if let Some([words, _]) = finish {
            bufs.push(self.buffer(state, words, false)?);
        }
        self.launches.fetch_add(1, Ordering::Relaxed);
        if threads > 0 {
            self.encode(state, &pipeline, u, inputs.iter().map(|b| b.as_ref()).chain(&bufs), grids)?;
        }
        self.check(state)?;
        bufs.truncate(outputs.len());
        Ok(bufs.into_iter().map(|b| Storage::Gpu(Arc::new(b))).collect())
    }

    /// The workgroups of `k` by a count on this device: made there, once for each count and rule.
    fn counted(&self, k: &dyn AnyKernel, c: Counted, count: &Arc<GpuBuf>) -> Result<Arc<GpuBuf>> {
        let u = GridU::new(c, k.workgroup(), self.limits.max_compute_workgroups_per_dimension);
        let mut grids = count.grids.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, grid)) = grids.iter().find(|g| g.0 == u) {
            return Ok(grid.clone());
        }
        let made = self.launch(&Grid, bytemuck::bytes_of(&u), &[&Storage::Gpu(count.clone())], &[3])?;
        let Some(Storage::Gpu(grid)) = made.into_iter().next() else {
            return Err(Error::device(format!("{}: no grid was made", k.label())));
        };
        grids.push((u, grid.clone()));
        Ok(grid)
    }

    /// Encodes the stages of a launch, and submits if enough has gathered.
    fn encode<'a>(
        &self,
        state: &mut State,
        pipeline: &Pipeline,
        u: &[u8],
        buffers: impl Iterator<Item = &'a GpuBuf>,
        grids: [Groups<'_>; 2],
    ) -> Result<()> {
        let offset = state.uniforms.len();
        state.uniforms.extend_from_slice(u);
        state.uniforms.resize(offset + self.uniform_stride, 0);
        let uniform_bytes = NonZeroU64::new(u.len().next_multiple_of(16) as u64);
        let uniform = BufferBinding { buffer: &self.uniforms, offset: 0, size: uniform_bytes };
        let mut entries = vec![BindGroupEntry { binding: 0, resource: BindingResource::Buffer(uniform) }];
        for b in buffers {
            let size = b.binding_bytes();
            state.bound += size;
            let whole = BufferBinding { buffer: &b.buffer, offset: 0, size: NonZeroU64::new(size) };
            entries.push(BindGroupEntry { binding: entries.len() as u32, resource: BindingResource::Buffer(whole) });
        }
        let group =
            self.device.create_bind_group(&BindGroupDescriptor { label: None, layout: &pipeline.layout, entries: &entries });
        let started = std::time::Instant::now();
        let timed = state.profile.on && self.timestamps;
        if timed {
            state.encoder(&self.device);
            let timestamp_writes = state.profile.stamp(&self.device, &pipeline.label, LAUNCHES);
            let desc = ComputePassDescriptor { label: Some(&pipeline.label), timestamp_writes };
            state.pass = state.encoder.as_mut().map(|e| e.begin_compute_pass(&desc).forget_lifetime());
        } else if state.pass.is_none() {
            let pass = state.encoder(&self.device).begin_compute_pass(&ComputePassDescriptor::default()).forget_lifetime();
            state.pass = Some(pass);
        }
        if let Some(pass) = &mut state.pass {
            for (stage, groups) in [Some(&pipeline.main), pipeline.finish.as_ref()].into_iter().zip(grids) {
                let Some(stage) = stage else { continue };
                pass.set_pipeline(stage);
                pass.set_bind_group(0, &group, &[offset as u32]);
                match groups {
                    Groups::Fixed([0, _]) => {}
                    Groups::Fixed([x, y]) => pass.dispatch_workgroups(x, y, 1),
                    Groups::Counted(grid) => pass.dispatch_workgroups_indirect(grid, 0),
                }
            }
        }
        if timed {
            state.pass = None;
        }
        state.launches += 1;
        if state.profile.on && !self.timestamps {
            self.submit(state)?;
            self.wait(None)?;
            state.profile.add(&pipeline.label, started.elapsed().as_secs_f64());
        }
        if state.launches >= LAUNCHES || state.bound >= BOUND_BYTES {
            self.submit(state)?;
        }
        Ok(())
    }

    /// Workgroups in each direction.
    fn grid(&self, k: &dyn AnyKernel, threads: usize) -> Result<[u32; 2]> {
        let side = self.limits.max_compute_workgroups_per_dimension as usize;
        let groups = threads.div_ceil(k.workgroup() as usize);
        let y = groups.div_ceil(side).max(1);
        let x = groups.div_ceil(y);
        // Invocations are numbered by a u32.
        if y > side || x * y * k.workgroup() as usize > u32::MAX as usize {
            return Err(Error::device(format!("{}: {threads} invocations are too many; use a smaller batch", k.label())));
        }
        Ok([x as u32, y as u32])
    }

    /// Submits what is queued.
    fn submit(&self, state: &mut State) -> Result<()> {
        state.pass = None;
        if state.uploaded == 0 && state.encoder.is_none() {
            return self.check(state);
        }
        if !state.uniforms.is_empty() {
            // Written before the commands of this submission and after those of the one before it.
            self.queue.write_buffer(&self.uniforms, 0, &state.uniforms);
        }
        let mut encoder = state.encoder.take();
        if let Some(e) = &mut encoder {
            state.profile.finish(&self.device, e);
        }
        let index = self.queue.submit(encoder.map(CommandEncoder::finish));
        self.pool.submitted();
        state.uniforms.clear();
        (state.launches, state.bound, state.uploaded) = (0, 0, 0);
        state.in_flight.push_back(index);
        self.check(state)?;
        while state.in_flight.len() > IN_FLIGHT {
            self.wait(state.in_flight.pop_front())?;
        }
        Ok(())
    }

    /// Waits for a submission, or for the last one.
    fn wait(&self, submission_index: Option<SubmissionIndex>) -> Result<()> {
        let wait = || self.device.poll(PollType::Wait { submission_index, timeout: None });
        // wgpu panics where a wait finds the device lost.
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
        self.healthy()?;
        match waited {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(Error::device(format!("{}: waiting failed: {e}", self.name))),
            Err(_) => Err(Error::device(format!("{}: the GPU was lost", self.name))),
        }
    }

    /// Copies words up.
    pub fn upload(&self, words: &[u32]) -> Result<Storage> {
        let bytes = words.len() as u64 * 4;
        if bytes > self.limits.max_buffer_size {
            let max = self.limits.max_buffer_size;
            return Err(Error::device(format!(
                "a tensor of {bytes} bytes is beyond the {max} bytes that {} holds; use a smaller batch",
                self.name
            )));
        }
        let mut state = self.lock();
        let buf = self.buffer(&mut state, words.len(), true)?;
        if !words.is_empty() {
            self.queue.write_buffer(&buf.buffer, 0, bytemuck::cast_slice(words));
            state.uploaded += bytes;
            if state.uploaded >= UPLOAD_BYTES {
                self.submit(&mut state)?;
            }
        }
        self.check(&mut state)?;
        Ok(Storage::Gpu(Arc::new(buf)))
    }

    /// Copies words back: submits what is queued and waits for it.
    pub fn read(&self, b: &GpuBuf) -> Result<Vec<u32>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if !b.is_from(&self.pool) {
            return Err(Error::device(format!("a buffer of another GPU was read through {}", self.name)));
        }
        if b.is_empty() {
            self.check(&mut self.lock())?;
            return Ok(Vec::new());
        }
        let bytes = b.len() as u64 * 4;
        let kept = self.staging.lock().unwrap_or_else(PoisonError::into_inner).take();
        let staging = kept.filter(|s| s.size() >= bytes).unwrap_or_else(|| {
            let size = bytes.next_power_of_two().max(4096);
            let size = if size > STAGING_BYTES { bytes } else { size };
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            self.device.create_buffer(&BufferDescriptor { label: Some("staging"), size, usage, mapped_at_creation: false })
        });
        let index = {
            let mut state = self.lock();
            state.encoder(&self.device).copy_buffer_to_buffer(&b.buffer, 0, &staging, 0, bytes);
            self.submit(&mut state)?;
            state.in_flight.back().cloned()
        };
        let (done, mapped) = mpsc::channel();
        staging.map_async(MapMode::Read, ..bytes, move |r| drop(done.send(r)));
        self.wait(index)?;
        // The callback has run: wgpu calls it before the wait returns.
        mapped
            .recv_timeout(std::time::Duration::from_secs(60))
            .map_err(|e| Error::device(format!("{}: reading back failed: {e}", self.name)))?
            .map_err(|e| Error::device(format!("{}: reading back failed: {e}", self.name)))?;
        let view =
            staging.get_mapped_range(..bytes).map_err(|e| Error::device(format!("{}: reading back failed: {e}", self.name)))?;
        let mut words = vec![0u32; b.len()];
        bytemuck::cast_slice_mut::<u32, u8>(&mut words).copy_from_slice(&view);
        drop(view);
        staging.unmap();
        if staging.size() <= STAGING_BYTES {
            *self.staging.lock().unwrap_or_else(PoisonError::into_inner) = Some(staging);
        }
        self.healthy()?;
        Ok(words)
    }

    /// Submits what is queued and waits until all of it has run.
    pub fn synchronize(&self) -> Result<()> {
        let mut state = self.lock();
        self.submit(&mut state)?;
        state.in_flight.clear();
        self.wait(None)
    }

    /// Switches the timing of launches on or off. It costs a pass for each launch; without timestamps on the adapter it costs a wait
    /// for each launch, and the times include it.
    pub fn profile(&self, on: bool) {
        self.lock().profile.on = on;
    }

    /// Waits, and returns what was timed since the last call: kernel label, launches, seconds; the longest first.
    ///
    /// # Errors
    /// A lost device.
    pub fn take_profile(&self) -> Result<Vec<(String, u64, f64)>> {
        let mut state = self.lock();
        self.submit(&mut state)?;
        state.profile.map();
        self.wait(None)?;
        Ok(state.profile.collect(self.queue.get_timestamp_period()))
    }
}
