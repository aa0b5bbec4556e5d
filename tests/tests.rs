//! The one integration binary.

mod cli;
mod decode;
mod device;
mod fire;
mod frames;
mod gpu;
mod gradients;
mod infer;
mod infer_cli;
mod layers;
mod lazy;
mod networks;
mod oracle;
mod oracle_train;
mod padding;
mod parity;
mod reflection;
mod shared;
mod skip;

fn main() -> std::process::ExitCode {
    let args = libtest_mimic::Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(decode::trials());
    trials.extend(reflection::trials());
    trials.extend(device::trials());
    trials.extend(parity::trials());
    trials.extend(layers::trials());
    trials.extend(gradients::trials());
    trials.extend(networks::trials());
    trials.extend(padding::trials());
    trials.extend(infer::trials());
    trials.extend(infer_cli::trials());
    trials.extend(lazy::trials());
    trials.extend(fire::trials());
    trials.extend(frames::trials());
    trials.extend(skip::trials());
    trials.extend(oracle::trials());
    trials.extend(cli::trials());
    libtest_mimic::run(&args, trials).exit_code()
}
