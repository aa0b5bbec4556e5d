//! What a run needs besides its input: parameters, a tape, neuron state, statistics, counts.
//!
//! A [`Module`] never asks in which mode it runs: [`Ctx::apply`] records an operation when there is a tape and counts it when there is
//! a profile; norms ask [`Ctx::is_training`]; neurons take their state from here when the context carries it from chunk to chunk.

use crate::counts::{Cost, Counts, is_attention, set_bits};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::elementwise::{Add, AddU};
use crate::padding::Padding;
use crate::params::{ParamId, Params};
use crate::rng::Rng;
use crate::tensor::{Repr, Tensor, launch1};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// What [`Op::forward`] returns.
pub struct Forward {
    /// Results.
    pub outputs: Vec<Tensor>,
    /// What backward will want; dropped at once where there is no tape.
    pub saved: Vec<Tensor>,
}

impl Forward {
    /// One result and what backward wants.
    pub fn one(output: Tensor, saved: Vec<Tensor>) -> Self {
        Forward { outputs: vec![output], saved }
    }
}

/// A differentiable operation: forward, and backward written by hand under it.
pub trait Op: Send + Sync + 'static {
    /// Name for errors and the profile.
    fn name(&self) -> &'static str;
    /// Computes the outputs.
    fn forward(&self, x: &[&Tensor]) -> Result<Forward>;
    /// Gradients of the inputs from those of the outputs; `None` where an output had none, and where `needs` says that an input's is
    /// not wanted. What is taken out of `dy` is freed as soon as it is dropped.
    fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], needs: &[bool]) -> Result<Vec<Option<Tensor>>>;
    /// Whether backward had better compute the first output of x again than have it kept: where that costs less than the memory is worth.
    fn is_cheap(&self, x: &[&Tensor]) -> bool {
        let _ = x;
        false
    }
    /// Whether the first output is what a layer of neurons emitted, to be counted as its spikes.
    fn is_layer(&self) -> bool {
        false
    }
    /// Synaptic operations, counted from the spikes at hand. Reads buffers back: called only where a profile is kept.
    fn cost(&self, x: &[&Tensor]) -> Result<Cost> {
        let _ = x;
        Ok(Cost::default())
    }
}

/// Anything that maps `[T, B, ..]` to `[T, B, ..]`.
pub trait Module: Send + Sync {
    /// Runs all T steps of `x`.
    fn forward(&self, x: &Tensor, cx: &mut Ctx<'_>) -> Result<Tensor>;
}

/// What an operation's backward will want.
enum Saved {
    Kept(Tensor),
    /// The first output of the operation recorded at this place, computed again, in this shape.
    Again(usize, Vec<usize>),
}

struct Record {
    place: String,
    op: Box<dyn Op>,
    inputs: Vec<u64>,
    outputs: Vec<u64>,
    saved: Vec<Saved>,
    needs: Vec<bool>,
    /// The inputs themselves, where the first output is to be computed again.
    again: Vec<Saved>,
}

/// How many operations in a row are computed again at most, for one that is wanted: of a chain of residual sums every fourth is kept.
const LONGEST: usize = 4;

#[derive(Default)]
struct Tape {
    records: Vec<Record>,
    wanted: HashSet<u64>,
    /// Outputs that are computed again, where the operation is recorded, and how many in a row that takes.
    cheap: HashMap<u64, (usize, usize)>,
}

impl Tape {
    fn record(&mut self, place: &str, op: impl Op, x: &[&Tensor], f: &Forward, saved: Vec<Tensor>, needs: Vec<bool>) {
        self.wanted.extend(f.outputs.iter().map(Tensor::id));
        let saved = saved.into_iter().map(|t| self.save(t)).collect();
        let chain = 1 + x.iter().filter_map(|x| self.cheap.get(&x.id())).map(|(_, chain)| *chain).max().unwrap_or(0);
        let cheap = f.outputs.first().filter(|_| chain <= LONGEST && op.is_cheap(x));
        let again = cheap.iter().flat_map(|_| x.iter().map(|&t| self.save(t.clone()))).collect();
        self.cheap.extend(cheap.map(|y| (y.id(), (self.records.len(), chain))));
        self.records.push(Record {
            place: place.to_string(),
            inputs: x.iter().map(|t| t.id()).collect(),
            outputs: f.outputs.iter().map(Tensor::id).collect(),
            saved,
            needs,
            again,
            op: Box::new(op),
        });
    }
    /// Keeps a tensor, unless it can be computed again.
    fn save(&self, t: Tensor) -> Saved {
        match self.cheap.get(&t.id()) {
            Some(&(at, _)) => Saved::Again(at, t.shape().to_vec()),
            None => Saved::Kept(t),
        }
    }
    /// What was saved, for the operation behind these; `made` holds what was computed again and may be wanted once more.
    fn fetch(&self, saved: Vec<Saved>, made: &mut HashMap<usize, Tensor>) -> Result<Vec<Tensor>> {
        saved.iter().map(|saved| self.one(saved, made, true)).collect()
    }
    /// One of those. What it is made of is made for it alone: held until it is wanted itself, a chain would take the memory of all its sums.
    fn one(&self, saved: &Saved, made: &mut HashMap<usize, Tensor>, hold: bool) -> Result<Tensor> {
        let (at, shape) = match saved {
            Saved::Kept(t) => return Ok(t.clone()),
            Saved::Again(at, shape) => (*at, shape),
        };
        if let Some(y) = made.get(&at) {
            return y.reshape(shape);
        }
        let Record { op, again, .. } = &self.records[at];
        let x = again.iter().map(|x| self.one(x, made, false)).collect::<Result<Vec<_>>>()?;
        let y = op.forward(&x.iter().collect::<Vec<_>>())?.outputs.swap_remove(0);
        if hold {
            made.insert(at, y.clone());
        }
        y.reshape(shape)
    }
}

/// Gradients by tensor identity.
#[derive(Default)]
pub struct Gradients(HashMap<u64, Tensor>);

impl Gradients {
    /// The gradient of `t`, if any reached it.
    pub fn of(&self, t: &Tensor) -> Option<&Tensor> {
        self.0.get(&t.id())
    }
    fn add(&mut self, id: u64, g: Tensor) -> Result<()> {
        let g = match self.0.remove(&id) {
            None => g,
            Some(have) => launch1(&Add, &AddU { n: g.len() as u32 }, &[&have, &g], g.shape(), Repr::F32)?,
        };
        self.0.insert(id, g);
        Ok(())
    }
}

/// Where the clocks stood before an operation that is counted.
struct Mark {
    device: Device,
    bytes: u64,
    began: Instant,
}

impl Mark {
    fn new(device: &Device, counts: &Counts) -> Result<Self> {
        if counts.keep.seconds {
            device.synchronize()?;
        }
        Ok(Mark { device: device.clone(), bytes: device.bytes_moved(), began: Instant::now() })
    }
    /// Counts the time since as that of an operation; returns the bytes moved.
    fn stop(&self, counts: &mut Counts, place: &str, name: &str) -> Result<u64> {
        let bytes = self.device.bytes_moved() - self.bytes;
        if counts.keep.seconds {
            self.device.synchronize()?;
            counts.seconds(place, name, self.began.elapsed().as_secs_f64());
        }
        Ok(bytes)
    }
    /// Of a padded batch, real steps alone are counted; bytes and seconds are those of all.
    fn count(
        self,
        counts: &mut Counts,
        place: &str,
        op: &impl Op,
        x: &[&Tensor],
        outputs: &[Tensor],
        params: &Params,
        padding: Option<&Padding>,
    ) -> Result<()> {
        let bytes = self.stop(counts, place, op.name())?;
        let keep = counts.keep;
        let spikes = outputs.first().filter(|_| op.is_layer());
        if !keep.operations {
            return spikes.map_or(Ok(()), |s| counts.spikes(place, s, padding));
        }
        // Weights have no steps.
        let real = |t: &Tensor| match padding.filter(|p| p.fits(t) && !params.is_learned(t.id())) {
            None => Ok(t.clone()),
            Some(p) => p.real(t),
        };
        let came = x.iter().filter(|t| t.is_bits()).map(|t| t.id()).collect();
        let inputs = x.iter().map(|t| real(t)).collect::<Result<Vec<_>>>()?;
        let x = &inputs.iter().collect::<Vec<_>>()[..];
        let mut cost = op.cost(x)?;
        if let Some(input) = x.first().filter(|_| !is_attention(op.name())) {
            cost = cost.by_input(input);
        }
        if let Some((input, rest)) = x.split_first().filter(|(t, _)| t.planes() > 1) {
            cost.integer_acs = cost.acs;
            if keep.detail && cost.acs > 0 {
                let any = input.any_plane()?;
                let inputs: Vec<&Tensor> = std::iter::once(&any).chain(rest.iter().copied()).collect();
                cost.integer_macs = op.cost(&inputs)?.acs;
            }
        }
        counts.operation(place, op.name(), cost);
        counts.elements(place, op.name(), outputs.first().map_or(0, |y| y.len() as u64));
        if let Some(s) = spikes {
            counts.spikes(place, s, padding)?;
        }
        if keep.detail {
            let outputs = outputs.iter().map(real).collect::<Result<Vec<_>>>()?;
            let spikes_out = set_bits(&outputs.iter().collect::<Vec<_>>())?;
            counts.traffic(place, op.name(), came, set_bits(x)?, spikes_out, bytes);
        }
        Ok(())
    }
}

/// Everything a run needs besides its input.
pub struct Ctx<'p> {
    params: &'p Params,
    tape: Option<Tape>,
    state: Option<HashMap<String, Tensor>>,
    updates: Vec<(ParamId, Tensor)>,
    counts: Option<Counts>,
    padding: Option<Padding>,
    skips: bool,
    rng: Rng,
}

impl<'p> Ctx<'p> {
    /// For inference: running statistics, no tape; each clip starts from rest.
    pub fn infer(params: &'p Params) -> Self {
        let (padding, rng) = (None, Rng::new(0));
        Ctx { params, tape: None, state: None, updates: Vec::new(), counts: None, padding, skips: true, rng }
    }
    /// For training: batch statistics and a tape.
    pub fn train(params: &'p Params) -> Self {
        Ctx { tape: Some(Tape::default()), ..Self::infer(params) }
    }
    /// For streaming: like [`Ctx::infer`], with neuron state taken up from `state` (empty at the start of a clip).
    pub fn stream(params: &'p Params, state: HashMap<String, Tensor>) -> Self {
        Ctx { state: Some(state), ..Self::infer(params) }
    }
    /// Counts spikes and operations from now on.
    pub fn with_counts(mut self, counts: Counts) -> Self {
        self.counts = Some(counts);
        self
    }
    /// For a batch of samples of different lengths: which steps are real. None where all are.
    pub fn with_padding(mut self, padding: Option<Padding>) -> Self {
        self.padding = padding;
        self
    }
    /// Which steps are real; none where all are.
    pub fn padding(&self) -> Option<&Padding> {
        self.padding.as_ref()
    }
    /// The real steps of x `[T, B, ..]`, as [`Padding::real`]; x itself where all are.
    pub fn real(&self, x: &Tensor) -> Result<Tensor> {
        self.padding.as_ref().map_or_else(|| Ok(x.clone()), |p| p.real(x))
    }
    /// Computes what is behind closed gates too: the same results, for comparison.
    pub fn without_skipping(mut self) -> Self {
        self.skips = false;
        self
    }
    /// Whether what nobody hears may be left out: not in training, where norms take their statistics from every row, not of a padded
    /// batch, whose rows are counted by real steps, and not where changes of all membranes are counted.
    pub fn skips(&self) -> bool {
        let membranes = self.counts.as_ref().is_some_and(|c| c.keep.membranes);
        self.skips && self.tape.is_none() && self.padding.is_none() && !membranes
    }
    /// What is random in training draws from streams of `rng`, another for each step; without it every step draws the same.
    pub fn with_rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }
    /// The random stream of the module `name` in this step.
    pub fn rng(&self, name: &str) -> Rng {
        self.rng.stream(name)
    }
    /// Whether norms take batch statistics.
    pub fn is_training(&self) -> bool {
        self.tape.is_some()
    }
    /// Whether the parameters' batch norms are folded (`nn::fold`).
    pub fn is_folded(&self) -> bool {
        self.params.is_folded()
    }
    /// Whether neuron state is carried from call to call.
    pub fn carries_state(&self) -> bool {
        self.state.is_some()
    }
    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        self.params.device()
    }
    /// A parameter's value.
    pub fn param(&self, id: ParamId) -> Tensor {
        self.params.get(id).value.clone()
    }
    /// Asks for the gradient of an input (parameters' are always kept).
    pub fn watch(&mut self, x: &Tensor) {
        if let Some(t) = &mut self.tape {
            t.wanted.insert(x.id());
        }
    }
    /// Whether backward will want the gradient of x.
    pub fn wants(&self, x: &Tensor) -> bool {
        self.tape.as_ref().is_some_and(|t| self.params.is_learned(x.id()) || t.wanted.contains(&x.id()))
    }
    /// The carried state under `name`.
    pub fn take_state(&mut self, name: &str) -> Option<Tensor> {
        self.state.as_mut()?.remove(name)
    }
    /// Leaves state for the next call.
    pub fn put_state(&mut self, name: &str, v: Tensor) {
        if let Some(s) = &mut self.state {
            s.insert(name.to_string(), v);
        }
    }
    /// The carried state, to hand to the next [`Ctx::stream`].
    pub fn into_state(self) -> HashMap<String, Tensor> {
        self.state.unwrap_or_default()
    }
    /// A new value for a buffer (running statistics), applied by [`Params::update`] after the step.
    pub fn update(&mut self, id: ParamId, value: Tensor) {
        self.updates.push((id, value));
    }
    /// The counts, if any are kept.
    pub fn counts(&mut self) -> Option<&mut Counts> {
        self.counts.as_mut()
    }
    /// Whether operations are counted or the spikes of a clip kept, for which all is read back and each place computed by itself.
    pub fn counts_work(&self) -> bool {
        self.counts.as_ref().is_some_and(|c| c.keep.operations || c.keep.clip)
    }
    /// Counts the gates that a router opened, spikes `[T, B, N.., experts]`, if anything is counted.
    pub fn count_router(&mut self, place: &str, r: &Tensor) -> Result<()> {
        self.counts.as_mut().map_or(Ok(()), |c| c.router(place, r, self.padding.as_ref()))
    }
    /// Counts changes of the membranes `[T, B, .., C]` of a neuron layer after each step, if they are asked for.
    pub fn count_membranes(&mut self, place: &str, v: &Tensor) -> Result<()> {
        self.counts.as_mut().map_or(Ok(()), |c| c.membranes(place, v, self.padding.as_ref()))
    }
    /// Counts what a layer of neurons emitted, where it was computed in parts.
    pub fn emitted(&mut self, place: &str, s: &Tensor) -> Result<()> {
        self.counts.as_mut().map_or(Ok(()), |c| c.spikes(place, s, self.padding.as_ref()))
    }
    /// Ends the run: new values of buffers, and the counts.
    pub fn finish(self) -> (Vec<(ParamId, Tensor)>, Option<Counts>) {
        (self.updates, self.counts)
    }

    /// Runs an operation under the name of the module that asks.
    pub fn apply(&mut self, place: &str, op: impl Op, x: &[&Tensor]) -> Result<Vec<Tensor>> {
        let located = |e: Error| match e.kind() {
            ErrorKind::Shape { op, message } => Error::shape(format!("{place}: {op}"), message.clone()),
            _ => e,
        };
        let mark = self.counts.as_ref().map(|c| Mark::new(self.params.device(), c)).transpose()?;
        let mut f = op.forward(x).map_err(located)?;
        if let (Some(counts), Some(mark)) = (&mut self.counts, mark) {
            mark.count(counts, place, &op, x, &f.outputs, self.params, self.padding.as_ref()).map_err(located)?;
        }
        // Nothing where there is no tape.
        let needs: Vec<bool> = self.tape.iter().flat_map(|_| x.iter().map(|t| self.wants(t))).collect();
        if let Some(tape) = self.tape.as_mut().filter(|_| needs.contains(&true)) {
            let saved = std::mem::take(&mut f.saved);
            tape.record(place, op, x, &f, saved, needs);
        }
        Ok(f.outputs)
    }
    /// Does for a module what is no operation on its maps, as listing the rows that gates open: its time and bytes are counted as those of
    /// operation `name`, and nothing else.
    pub fn aside<T>(&mut self, place: &str, name: &str, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let mark = self.counts.as_ref().map(|c| Mark::new(self.params.device(), c)).transpose()?;
        let done = f()?;
        if let (Some(counts), Some(mark)) = (&mut self.counts, mark) {
            let bytes = mark.stop(counts, place, name)?;
            if counts.keep.detail {
                counts.traffic(place, name, Vec::new(), 0, 0, bytes);
            }
        }
        Ok(done)
    }
    /// [`Ctx::apply`] for an operation with one result.
    pub fn apply1(&mut self, place: &str, op: impl Op, x: &[&Tensor]) -> Result<Tensor> {
        let name = op.name();
        self.apply(place, op, x)?.into_iter().next().ok_or_else(|| Error::shape(name, "no output"))
    }

    /// Bytes that the tape keeps for backward, by module: each buffer once, with the module that saved it first; those of parameters and
    /// of `input` are not counted.
    pub fn kept(&self, input: &Tensor) -> Vec<(String, u64)> {
        let known = self.params.iter().map(|(_, p)| p.value.storage().address());
        let mut seen: HashSet<usize> = known.chain([input.storage().address()]).collect();
        let records = self.tape.iter().flat_map(|t| &t.records);
        let mut kept = |r: &Record| {
            let kept = r.saved.iter().chain(&r.again).filter_map(|s| if let Saved::Kept(t) = s { Some(t) } else { None });
            kept.filter(|t| seen.insert(t.storage().address())).map(|t| 4 * t.storage().len() as u64).sum()
        };
        records.map(|r| (r.place.clone(), kept(r))).collect()
    }

    /// Walks the tape backwards from `y`, whose gradient is `dy`. Gradients of parameters and watched inputs are left, and what
    /// backward wanted is freed on the way.
    ///
    /// # Errors
    /// A context without a tape, or an operation's own.
    pub fn backward(&mut self, y: &Tensor, dy: Tensor) -> Result<Gradients> {
        let mut tape = self.tape.take().ok_or_else(|| Error::shape("backward", "this context keeps no tape"))?;
        let mut grads = Gradients::default();
        grads.add(y.id(), dy)?;
        let mut made = HashMap::new();
        while let Some(r) = tape.records.pop() {
            made.remove(&tape.records.len());
            let mut dy: Vec<Option<Tensor>> = r.outputs.iter().map(|id| grads.0.remove(id)).collect();
            if dy.iter().all(Option::is_none) {
                continue;
            }
            let located = |e: Error| match e.kind() {
                ErrorKind::Shape { op, message } => Error::shape(format!("{}: {op} (backward)", r.place), message.clone()),
                _ => e,
            };
            let saved = tape.fetch(r.saved, &mut made).map_err(located)?;
            let dx = r.op.backward(&saved, &mut dy, &r.needs).map_err(located)?;
            drop((saved, dy));
            for ((id, g), needed) in r.inputs.iter().zip(dx).zip(&r.needs) {
                if let (Some(g), true) = (g, needed) {
                    grads.add(*id, g)?;
                }
            }
        }
        Ok(grads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn map(x: &Tensor, f: impl Fn(usize, f32) -> f32) -> Tensor {
        let v: Vec<f32> = x.to_vec().unwrap().into_iter().enumerate().map(|(i, v)| f(i, v)).collect();
        Tensor::from_f32(&Device::Cpu, x.shape(), &v).unwrap()
    }
    fn product(x: &Tensor, y: &Tensor) -> Tensor {
        let y = y.to_vec().unwrap();
        map(x, |i, x| x * y[i])
    }

    /// x -> 2 x, cheap; counts its runs.
    struct Twice(Arc<AtomicUsize>);

    impl Op for Twice {
        fn name(&self) -> &'static str {
            "twice"
        }
        fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
            self.0.fetch_add(1, Relaxed);
            Ok(Forward::one(map(x[0], |_, x| 2.0 * x), Vec::new()))
        }
        fn backward(&self, _: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
            Ok(vec![dy[0].take().map(|d| map(&d, |_, d| 2.0 * d))])
        }
        fn is_cheap(&self, _: &[&Tensor]) -> bool {
            true
        }
    }

    /// x, y -> x y.
    struct Product;

    impl Op for Product {
        fn name(&self) -> &'static str {
            "product"
        }
        fn forward(&self, x: &[&Tensor]) -> Result<Forward> {
            Ok(Forward::one(product(x[0], x[1]), vec![x[0].clone(), x[1].clone()]))
        }
        fn backward(&self, saved: &[Tensor], dy: &mut [Option<Tensor>], _: &[bool]) -> Result<Vec<Option<Tensor>>> {
            let d = dy[0].take().unwrap();
            Ok(vec![Some(product(&d, &saved[1])), Some(product(&d, &saved[0]))])
        }
    }

    /// (2 x)^3 by two products: what is cheap is not kept, and computed again once for both.
    #[test]
    fn what_is_cheap_is_computed_again() {
        let params = Params::new(&Device::Cpu);
        let x = Tensor::from_f32(&Device::Cpu, &[1, 1, 2], &[3.0, -0.5]).unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let mut cx = Ctx::train(&params);
        cx.watch(&x);
        let y = cx.apply1("a", Twice(runs.clone()), &[&x]).unwrap();
        let square = cx.apply1("b", Product, &[&y, &y]).unwrap();
        let cube = cx.apply1("c", Product, &[&square, &y.reshape(&[2, 1]).unwrap()]).unwrap();
        drop(y);
        let kept = |cx: &Ctx<'_>| cx.kept(&x).iter().map(|(place, bytes)| (place.clone(), *bytes)).collect::<Vec<_>>();
        assert_eq!(kept(&cx), [("a".into(), 0), ("b".into(), 0), ("c".into(), 8)]);
        let one = Tensor::from_f32(&Device::Cpu, cube.shape(), &[1.0, 1.0]).unwrap();
        let grads = cx.backward(&cube, one).unwrap();
        // 3 (2 x)^2 2.
        assert_eq!(grads.of(&x).unwrap().to_vec().unwrap(), [216.0, 6.0]);
        assert_eq!(runs.load(Relaxed), 2);
    }

    /// Of a chain of cheap operations some outputs are kept, so that what is wanted is never far; the others are made from them again.
    #[test]
    fn of_a_chain_some_are_kept() {
        let params = Params::new(&Device::Cpu);
        let x = Tensor::from_f32(&Device::Cpu, &[1, 1, 2], &[3.0, -0.5]).unwrap();
        let runs = Arc::new(AtomicUsize::new(0));
        let mut cx = Ctx::train(&params);
        cx.watch(&x);
        let mut y = vec![x.clone()];
        for i in 0..LONGEST + 2 {
            y.push(cx.apply1(&format!("{i}"), Twice(runs.clone()), &[&y[i]]).unwrap());
        }
        let z = cx.apply1("z", Product, &[&y[LONGEST + 2], &y[3]]).unwrap();
        drop(y);
        // The last is made of the one before it, which is kept.
        let kept: Vec<_> = cx.kept(&x).into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        assert_eq!(kept, [(format!("{}", LONGEST + 1), 8)]);
        let grads = cx.backward(&z, Tensor::from_f32(&Device::Cpu, z.shape(), &[1.0, 1.0]).unwrap()).unwrap();
        // z is 64 x times 8 x.
        assert_eq!(grads.of(&x).unwrap().to_vec().unwrap(), [3072.0, -512.0]);
        assert_eq!(runs.load(Relaxed), LONGEST + 2 + 1 + 3);
    }
}
