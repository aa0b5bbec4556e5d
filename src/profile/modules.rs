//! What every module of a network did, as means a sample: the content of `spikemix profile`.

use super::energy::{BreakEven, CONVENTIONS, Convention, HOROWITZ45_FP32, HOROWITZ45_INT8};
use super::neurobench::NeuroBench;
use super::report::{Activity, RouterRate};
use crate::counts::{Counts, Row};
use crate::error::Result;
use crate::params::Params;
use serde::Serialize;

/// A firing rate (spikes a neuron and step) and how far it spreads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Over all samples and steps.
    pub mean: f64,
    /// Of the sample with the fewest spikes.
    pub sample_min: f64,
    /// Of the sample with the most spikes.
    pub sample_max: f64,
    /// Of the step with the fewest spikes, over all samples.
    pub step_min: f64,
    /// Of the step with the most spikes, over all samples.
    pub step_max: f64,
}

/// A layer of neurons. A neuron is a place and a channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NeuronLayer {
    /// Path of the module.
    pub name: String,
    /// Neurons.
    pub neurons: u64,
    /// Spikes a neuron and step.
    pub firing_rate: Spread,
    /// The rate at each step, over all samples.
    pub rate_by_step: Vec<f64>,
    /// Neurons that never fired on the counted samples.
    pub silent_neurons: u64,
    /// Neurons that fired at every step of every counted sample.
    pub saturated_neurons: u64,
    /// Spikes a sample.
    pub spikes_out: f64,
    /// Updates a sample.
    pub neuron_updates: f64,
}

/// An operation of a module; means a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Path of the module.
    pub name: String,
    /// The operation.
    pub op: String,
    /// Spikes of the packed inputs; an integer spike of value k is k.
    pub spikes_in: f64,
    /// Spikes of the packed outputs.
    pub spikes_out: f64,
    /// Multiply-adds with nonzero inputs that are not spikes.
    pub effective_macs: f64,
    /// Additions that spikes caused, those below included.
    pub effective_acs: f64,
    /// Of them those by integer spikes.
    pub integer_acs: f64,
    /// Of them those of attention products.
    pub attention_acs: f64,
    /// Multiply-adds of a dense layer.
    pub dense_macs: f64,
    /// Neuron updates.
    pub neuron_updates: f64,
    /// Additions left out behind closed gates.
    pub skipped_sops: f64,
    /// Operations whose results met a closed gate; they were done.
    pub gated_sops: f64,
    /// Bytes of the buffers that its kernels read and wrote.
    pub bytes_moved: f64,
    /// Picojoules by the convention of the report.
    pub energy_pj: f64,
    /// Of it MACs, ACs and bytes moved.
    pub energy_parts_pj: [f64; 3],
    /// Wall time in seconds, from runs that counted nothing else.
    pub seconds: f64,
}

/// A router over all steps, and at each step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouterProfile {
    /// Over all steps.
    #[serde(flatten)]
    pub all: RouterRate,
    /// At each step.
    pub steps: Vec<RouterRate>,
}

/// Energy by one convention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Energy {
    /// Name of the convention.
    pub convention: &'static str,
    /// Picojoules a sample.
    pub energy_pj: f64,
    /// Multiply-adds a sample as it counts them.
    pub macs: f64,
    /// Additions a sample as it counts them.
    pub acs: f64,
    /// Of `energy_pj` what goes into bytes moved.
    pub memory_pj: f64,
    /// Formula and source.
    pub about: &'static str,
}

/// A kernel's share of a sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kernel {
    /// Name of the kernel.
    pub kernel: String,
    /// Launches in a batch.
    pub launches: f64,
    /// Seconds a sample.
    pub seconds: f64,
}

/// Time of runs in which nothing else was counted.
#[derive(Clone, Debug, Default)]
pub struct Timing {
    /// Seconds of a whole batch, in which nothing was counted at all.
    pub whole: f64,
    /// The same with everything behind closed gates computed.
    pub unskipped: f64,
    /// Samples of a batch.
    pub samples: u64,
    /// With seconds by operation ([`crate::counts::Keep::seconds`]), of `batches`.
    pub counts: Counts,
    /// Batches that `counts` and `kernels` are of.
    pub batches: u64,
    /// Kernel, launches, seconds ([`crate::device::Device::take_profile`]).
    pub kernels: Vec<(String, u64, f64)>,
}

/// What [`Profile::of`] is made of.
pub struct Counted<'a> {
    /// In detail ([`crate::counts::Keep::detail`]).
    pub counts: &'a Counts,
    /// Changes of membranes ([`crate::counts::Keep::membranes`]).
    pub membranes: &'a Counts,
    /// Times.
    pub timing: &'a Timing,
}

/// What a network did on some samples; numbers are means a sample (a whole clip, all its steps) unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The summary that `spikemix eval` prints too, with energy by `convention`.
    #[serde(flatten)]
    pub activity: Activity,
    /// Steps of a clip.
    pub steps: usize,
    /// Layers of neurons.
    pub neurons: Vec<NeuronLayer>,
    /// Operations in the order in which they ran.
    pub modules: Vec<Operation>,
    /// Additions by integer spikes; part of `effective_acs`.
    pub integer_acs: f64,
    /// Additions of attention products; part of `effective_acs`.
    pub attention_acs: f64,
    /// Operations that were done and whose results met a closed gate: what skipping could at most leave out. Not a saving.
    pub gated_sops: f64,
    /// Bytes that kernels read and wrote.
    pub bytes_moved: f64,
    /// Routers by step.
    pub routers_by_step: Vec<RouterProfile>,
    /// NeuroBench's metrics.
    pub neurobench: NeuroBench,
    /// The convention of `energy_pj` here and in `modules`; `energy_convention` is the same.
    pub convention: &'static str,
    /// By every convention.
    pub energy: Vec<Energy>,
    /// Against an int8 dense network of the same shape.
    pub break_even: Vec<BreakEven>,
    /// Wall time by kernel.
    pub kernels: Vec<Kernel>,
    /// Wall time of a whole pass in which nothing is counted: with what it takes to find out what can be skipped, and by the asynchronous
    /// kernels where these pay.
    pub seconds_per_sample: f64,
    /// The same with everything behind closed gates computed; measured in turns with the other.
    pub seconds_unskipped: f64,
}

fn neuron_layer(row: &Row, samples: f64) -> Option<NeuronLayer> {
    let d = row.detail.as_ref()?;
    let rates = |spikes: &[u64], times: &[u64]| -> Vec<f64> {
        spikes.iter().zip(times).map(|(&s, &n)| s as f64 / (d.neurons * n).max(1) as f64).collect()
    };
    let extremes = |v: &[f64]| {
        let least = v.iter().copied().reduce(f64::min).unwrap_or(0.0);
        (least, v.iter().copied().fold(0.0, f64::max))
    };
    let rate_by_step = rates(&d.by_step, &d.samples);
    let ((sample_min, sample_max), (step_min, step_max)) = (extremes(&rates(&d.by_sample, &d.steps)), extremes(&rate_by_step));
    Some(NeuronLayer {
        name: row.name.clone(),
        neurons: d.neurons,
        firing_rate: Spread { mean: row.rate(), sample_min, sample_max, step_min, step_max },
        rate_by_step,
        silent_neurons: d.silent(),
        saturated_neurons: d.saturated(),
        spikes_out: row.spikes as f64 / samples,
        neuron_updates: row.cost.neuron_updates as f64 / samples,
    })
}

impl Profile {
    /// From counts and times of a network with these parameters.
    ///
    /// # Errors
    /// A parameter that cannot be read back.
    pub fn of(params: &Params, counted: Counted<'_>, convention: &'static Convention) -> Result<Self> {
        let Counted { counts, membranes, timing } = counted;
        let n = counts.samples.max(1) as f64;
        let timed = (timing.samples * timing.batches).max(1) as f64;
        let seconds = |row: &Row| {
            let found = timing.counts.rows.iter().find(|t| t.name == row.name && t.op == row.op);
            found.map_or(0.0, |t| t.seconds / timed)
        };
        let modules: Vec<Operation> = counts
            .rows
            .iter()
            .map(|r| Operation {
                name: r.name.clone(),
                op: r.op.clone(),
                spikes_in: r.spikes_in as f64 / n,
                spikes_out: r.spikes_out as f64 / n,
                effective_macs: r.cost.macs as f64 / n,
                effective_acs: r.cost.acs as f64 / n,
                integer_acs: r.cost.integer_acs as f64 / n,
                attention_acs: if r.is_attention() { r.cost.acs as f64 / n } else { 0.0 },
                dense_macs: r.cost.dense as f64 / n,
                neuron_updates: r.cost.neuron_updates as f64 / n,
                skipped_sops: r.cost.skipped as f64 / n,
                gated_sops: counts.gated(&r.name, &r.op) as f64 / n,
                bytes_moved: r.bytes as f64 / n,
                energy_pj: convention.row_pj(r) / n,
                energy_parts_pj: convention.parts_pj(r).map(|e| e / n),
                seconds: seconds(r),
            })
            .collect();
        let steps = counts.rows.iter().filter_map(|r| r.detail.as_ref()).map(|d| d.by_step.len()).max().unwrap_or(1);
        let sum = |f: fn(&Operation) -> f64| modules.iter().map(f).sum();
        let energy = CONVENTIONS
            .iter()
            .map(|c| {
                let of = |f: fn((u64, u64)) -> u64| {
                    counts.rows.iter().map(|r| f(c.operations(&r.op, &r.cost))).sum::<u64>() as f64 / n
                };
                Energy {
                    convention: c.name,
                    energy_pj: c.counts_pj(counts) / n,
                    macs: of(|o| o.0),
                    acs: of(|o| o.1),
                    memory_pj: c.byte_pj * counts.rows.iter().map(|r| r.bytes).sum::<u64>() as f64 / n,
                    about: c.about,
                }
            })
            .collect();
        // Every layer sees every clip.
        let lengths = counts.rows.iter().find_map(|r| r.detail.as_ref()).map_or(&[][..], |d| &d.steps);
        let mean_steps = if lengths.is_empty() { 1.0 } else { lengths.iter().sum::<u64>() as f64 / lengths.len() as f64 };
        let mut runs = vec![mean_steps, 1.0];
        runs.dedup();
        let break_even = [HOROWITZ45_FP32, HOROWITZ45_INT8]
            .iter()
            .flat_map(|c| runs.iter().map(|&k| BreakEven::of(counts, c, mean_steps, k)).collect::<Vec<_>>())
            .collect();
        let kernels = timing.kernels.iter().map(|(kernel, launches, seconds)| Kernel {
            kernel: kernel.clone(),
            launches: *launches as f64 / timing.batches.max(1) as f64,
            seconds: seconds / timed,
        });
        Ok(Profile {
            activity: Activity {
                energy_pj: convention.counts_pj(counts) / n,
                dense_energy_pj: convention.dense_pj(counts).map(|pj| pj / n),
                energy_convention: convention.name,
                ..Activity::of(counts)
            },
            steps,
            neurons: counts.rows.iter().filter_map(|r| neuron_layer(r, n)).collect(),
            integer_acs: sum(|m| m.integer_acs),
            attention_acs: sum(|m| m.attention_acs),
            gated_sops: sum(|m| m.gated_sops),
            bytes_moved: sum(|m| m.bytes_moved),
            seconds_per_sample: timing.whole / timing.samples.max(1) as f64,
            seconds_unskipped: timing.unskipped / timing.samples.max(1) as f64,
            modules,
            routers_by_step: counts
                .routers
                .iter()
                .map(|r| RouterProfile {
                    all: RouterRate::of(r),
                    steps: (0..r.by_step.len()).filter_map(|t| r.step(t)).map(|r| RouterRate::of(&r)).collect(),
                })
                .collect(),
            neurobench: NeuroBench::of(params, counts, membranes)?,
            convention: convention.name,
            energy,
            break_even,
            kernels: kernels.collect(),
        })
    }
}

/// How each number of a report was counted, in plain words: (what, how).
pub const HOW: &[(&str, &str)] = &[
    (
        "firing rate",
        "spikes divided by neurons x steps x samples. Neurons that a closed gate left out count as silent. min and max over samples: the calmest and the busiest clip, all its steps; over steps: the calmest and the busiest step, all clips.",
    ),
    (
        "silent, saturated",
        "a neuron is one place and channel of a layer. Silent: it never fired on the samples counted; saturated: it fired at every step of every one. Both shrink as more samples are counted.",
    ),
    (
        "spikes in and out",
        "set bits of the packed maps that an operation reads and writes, a sample. An integer spike of value k is k spikes.",
    ),
    ("MAC", "multiply-adds whose input is not a spike (event counts, means), zero inputs left out."),
    (
        "AC",
        "additions of a weight (in attention: of an integer) because a spike arrived there; targets outside the image do not count. An integer spike of value k counts k times. Weights that are zero count.",
    ),
    ("integer AC", "of the ACs those by spikes of integer-valued maps: residuals that add spikes, and sums of experts."),
    (
        "attention AC",
        "of the ACs those of the products of attention (Q, K and V with each other) and of SDSA's sums over tokens.",
    ),
    ("dense", "multiply-adds of a dense network of the same shape at every step, zeros included, padding left out."),
    ("neuron updates", "one for each neuron and step; in no energy."),
    (
        "skipped",
        "additions not done because a gate was closed, counted from the spikes they would have been for: rows of X for an expert's queries that no open gate at that step or later asks for (for keys and values behind the last open gate of the sample), and columns of EMSP's first map whose gate never opens in the clip. What spikes that were never computed would have added is not in it. Skipped neurons are not in neuron updates. Results are the same to the bit. Clips are counted one by one, so that nothing depends on how they fall into batches.",
    ),
    (
        "gated",
        "operations that were done and whose result met a closed gate: the query and attention row of a closed expert, the depth-wise sum of a closed channel. Neurons behind it need those inputs for a later step at which the gate is open, or the gate comes channel by channel. Nothing was saved.",
    ),
    (
        "bytes moved",
        "sizes of all buffers that kernels read or wrote, each once a launch; clips run one by one, so weights once a clip and launch. Whole buffers, also where gates leave out most of what an operation would have read there. Not what the caches really moved.",
    ),
    (
        "time",
        "wall time of the first batch divided by its samples, the median of some passes after others to warm up: with all that it takes, deciding what to skip included, and in turns with passes that skip nothing. By module: of other passes, each operation waited for, by the kernels that touch every neuron at every step (a pass that counts nothing takes asynchronous ones for convolutions where these pay); on a GPU EMSP's depth-wise map, its neurons and the gates behind them are one kernel, whose time stands at the map. What decides which rows and channels are left out is operation list of the module that asks. By kernel: of passes of their own; on a GPU with timestamps without setting outputs to zero of which not all are computed.",
    ),
    (
        "routers",
        "router_firing_rate: open gates over all gates. experts_active_per_token: open gates a token and step. expert_load_entropy: entropy of the open gates over the experts, over its largest value (1 = even; null where no gate opened). expert_silence_fraction: experts whose gate never opened.",
    ),
    (
        "NeuroBench",
        "Footprint: bytes of all parameters and buffers. ConnectionSparsity: zero weights over weights of layers and convolutions. ActivationSparsity: neuron outputs that are zero, over neurons x steps x samples. SynapticOperations: of layers and convolutions, over samples (a sample is a whole clip); integer spikes are MACs there, attention is not counted. MembraneUpdates: neurons and steps after which the membrane is another than before, and all of the first step, over samples; counted in a run of its own in which closed gates skip nothing.",
    ),
    (
        "break-even",
        "activity is additions over dense multiply-adds of the operations that spikes drive. The int8 network does every multiply-add at 0.23 pJ, at each step or once a clip; at the break-even activity both cost the same; above 100 % binary spikes are cheaper at every rate, and it is never (null) where the multiply-adds of event counts and the head alone cost more than the dense network, and where no operation is driven by spikes. Arithmetic only.",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::energy::convention;
    use super::*;
    use crate::counts::{Cost, Keep};
    use crate::device::Device;
    use crate::tensor::Tensor;

    #[test]
    fn a_layer_by_hand() {
        let mut c = Counts::keeping(Keep { detail: true, ..Keep::default() });
        c.samples = 2;
        // Two steps of two samples of two neurons; the first sample fires 3 of 4, the second none.
        let v = [1., 1., 0., 0., 1., 0., 0., 0.];
        c.spikes("lif", &Tensor::spikes_from_f32(&Device::Cpu, &[2, 2, 2], &v).unwrap(), None).unwrap();
        c.operation("lif", "neuron", Cost { neuron_updates: 8, ..Cost::default() });
        c.operation("a", "query", Cost { acs: 6, dense: 20, ..Cost::default() });
        c.operation("b", "linear", Cost { acs: 4, integer_acs: 4, integer_macs: 2, dense: 20, ..Cost::default() });
        c.traffic("b", "linear", vec![1], 8, 2, 32);
        // Another part of the same layer.
        c.traffic("b", "linear", vec![1], 8, 0, 32);
        c.operation("b", "mixture", Cost::default());
        c.add_gated("b", "mixture", 10);
        let r = Tensor::spikes_from_f32(&Device::Cpu, &[2, 2, 1, 2], &[1., 0., 1., 0., 0., 0., 1., 1.]).unwrap();
        c.router("r", &r, None).unwrap();
        let mut timing = Timing { whole: 1.0, samples: 2, batches: 2, kernels: vec![("k".into(), 6, 8.0)], ..Timing::default() };
        timing.counts.seconds("b", "linear", 2.0);
        let fp32 = convention("horowitz45-fp32").unwrap();
        let membranes = &Counts::default();
        let p = Profile::of(&Params::new(&Device::Cpu), Counted { counts: &c, membranes, timing: &timing }, fp32).unwrap();
        let l = &p.neurons[0];
        let rate = Spread { mean: 0.375, sample_min: 0.0, sample_max: 0.75, step_min: 0.25, step_max: 0.5 };
        assert_eq!((l.firing_rate, l.neurons, l.silent_neurons, l.saturated_neurons), (rate, 2, 0, 0));
        assert_eq!((l.spikes_out, l.neuron_updates, &l.rate_by_step[..]), (1.5, 4.0, &[0.5, 0.25][..]));
        assert_eq!((p.steps, p.integer_acs, p.attention_acs, p.gated_sops, p.bytes_moved), (2, 2.0, 3.0, 5.0, 32.0));
        assert_eq!((p.seconds_per_sample, p.kernels[0].seconds, p.kernels[0].launches), (0.5, 2.0, 3.0));
        let router = &p.routers_by_step[0];
        assert_eq!((router.all.router_firing_rate, router.steps.len()), (0.5, 2));
        assert_eq!((router.steps[0].expert_silence_fraction, router.steps[1].expert_load_entropy), (0.5, Some(1.0)));
        let of_b = p.modules.iter().find(|m| m.name == "b" && m.op == "linear").unwrap();
        assert_eq!((of_b.spikes_in, of_b.spikes_out, of_b.bytes_moved), (4.0, 1.0, 32.0));
        assert_eq!(p.modules.iter().map(|m| m.energy_pj).sum::<f64>(), p.energy[0].energy_pj);
        assert_eq!((p.break_even.len(), p.energy.len()), (4, CONVENTIONS.len()));
        // Nothing counted is no failure.
        let nothing = Counted { counts: membranes, membranes, timing: &Timing::default() };
        let none = Profile::of(&Params::new(&Device::Cpu), nothing, fp32).unwrap();
        assert_eq!((none.steps, none.break_even.len()), (1, 2));
    }
}
