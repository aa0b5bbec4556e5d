//! Surrogate gradients: what backward takes for the derivative of the firing step, as functions of x = H - v_threshold.
//!
//! The formulas are SpikingJelly's; each is checked against fixtures made with it, and against the derivative of its primitive.
//!
//! # How to add one
//! One entry in the list at the end of this file. The neuron kernels, their parity cases and the gradient tests
//! then run it without being asked.

use serde::{Deserialize, Serialize};

/// The gradient of the firing step, in Rust and in WGSL.
pub trait Surrogate: Copy + Send + Sync + 'static {
    /// The gradient g(x); `#[inline(always)]`, branch-free, so that it vectorises.
    fn grad(x: f32, alpha: f32) -> f32;
    /// An antiderivative of g: what finite differences put in place of the step.
    fn primitive(x: f64, alpha: f64) -> f64;
    /// `fn surrogate(x: f32, alpha: f32) -> f32 { .. }` in WGSL, the same formula.
    const WGSL: &'static str;
}

/// e^x to about 2 units in the last place, without branches, for x in [-87, 88] (clamped outside).
///
/// Cody-Waite reduction by ln 2 and the polynomial of Cephes' `expf`; the standard library's does not vectorise.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 0.166_666_65) * r + 0.5;
    // The low bits of the sum are those of n: shifted into the exponent they are 2^n. The clamp keeps n between -126 and 127.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p * r * r + r + 1.0) * power
}

/// The logistic function.
#[inline(always)]
pub fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

macro_rules! define {
    ($d:tt $($(#[$doc:meta])* $name:ident($key:literal), $grad:expr, $primitive:expr, $wgsl:literal;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Surrogate for $name {
                #[inline(always)]
                fn grad(x: f32, alpha: f32) -> f32 {
                    let f: fn(f32, f32) -> f32 = $grad;
                    f(x, alpha)
                }
                fn primitive(x: f64, alpha: f64) -> f64 {
                    let f: fn(f64, f64) -> f64 = $primitive;
                    f(x, alpha)
                }
                const WGSL: &'static str = concat!("fn surrogate(x: f32, alpha: f32) -> f32 { ", $wgsl, " }");
            }
        )+
        /// Which surrogate gradient; the key in recipes and checkpoints.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum SurrogateKind {
            $($(#[$doc])* #[serde(rename = $key)] $name),+
        }
        impl SurrogateKind {
            /// All of them.
            pub const ALL: &'static [SurrogateKind] = &[$(SurrogateKind::$name),+];
            /// The key in recipes and checkpoints.
            pub fn key(self) -> &'static str {
                match self { $(SurrogateKind::$name => $key),+ }
            }
            /// The WGSL function.
            pub fn wgsl(self) -> &'static str {
                match self { $(SurrogateKind::$name => $name::WGSL),+ }
            }
            /// See [`Surrogate::primitive`].
            pub fn primitive(self, x: f64, alpha: f64) -> f64 {
                match self { $(SurrogateKind::$name => $name::primitive(x, alpha)),+ }
            }
            /// See [`Surrogate::grad`].
            pub fn grad(self, x: f32, alpha: f32) -> f32 {
                match self { $(SurrogateKind::$name => $name::grad(x, alpha)),+ }
            }
        }
        /// Runs an expression with a name for the surrogate type behind a [`SurrogateKind`].
        macro_rules! with_surrogate {
            ($d kind:expr, $d s:ident => $d e:expr) => {
                match $d kind { $($crate::surrogate::SurrogateKind::$name => { type $d s = $crate::surrogate::$name; $d e })+ }
            };
        }
        pub(crate) use with_surrogate;
    };
}

define! { $
    /// a s(ax) (1 - s(ax)), s the logistic function.
    Sigmoid("sigmoid"),
    |x, a| { let s = logistic(a * x); a * s * (1.0 - s) },
    |x, a| 1.0 / (1.0 + (-a * x).exp()),
    "let s = 1.0 / (1.0 + exp(clamp(-alpha * x, -87.0, 88.0))); return alpha * s * (1.0 - s);";
    /// a / (2 (1 + (pi a x / 2)^2)).
    ATan("atan"),
    |x, a| { let t = std::f32::consts::FRAC_PI_2 * a * x; a / (2.0 * (1.0 + t * t)) },
    |x, a| (std::f64::consts::FRAC_PI_2 * a * x).atan() / std::f64::consts::PI + 0.5,
    "let t = 1.5707963267948966 * alpha * x; return alpha / (2.0 * (1.0 + t * t));";
    /// max(0, a - a^2 |x|).
    PiecewiseQuadratic("piecewise_quadratic"),
    |x, a| (a - a * a * x.abs()).max(0.0),
    |x, a| { let b = x.clamp(-1.0 / a, 1.0 / a); a * b - a * a * b * b.abs() / 2.0 },
    "return max(0.0, alpha - alpha * alpha * abs(x));";
    /// a / (1 + |x|)^2.
    SuperSpike("super_spike"),
    |x, a| { let t = 1.0 + x.abs(); a / (t * t) },
    |x, a| a * x / (1.0 + x.abs()),
    "let t = 1.0 + abs(x); return alpha / (t * t);";
    /// 1 / (2 a (1/a + |x|)^2).
    SoftSign("soft_sign"),
    |x, a| { let t = 1.0 / a + x.abs(); 1.0 / (2.0 * a * t * t) },
    |x, a| a * x / (1.0 + a * x.abs()) / 2.0,
    "let t = 1.0 / alpha + abs(x); return 1.0 / (2.0 * alpha * t * t);";
    /// a exp(-a^2 x^2) / sqrt(pi).
    Erf("erf"),
    |x, a| a * exp(-a * a * x * x) * 0.564_189_6,
    erf_primitive,
    "return alpha * exp(max(-alpha * alpha * x * x, -87.0)) * 0.5641895835477563;";
    /// a exp(-a |x|) / 2.
    PiecewiseExp("piecewise_exp"),
    |x, a| a * exp(-a * x.abs()) * 0.5,
    |x, a| if x < 0.0 { (a * x).exp() / 2.0 } else { 1.0 - (-a * x).exp() / 2.0 },
    "return alpha * exp(max(-alpha * abs(x), -87.0)) * 0.5;";
    /// a where |x| < 1 / (2a), else 0.
    Rect("rect"),
    |x, a| if x.abs() < 0.5 / a { a } else { 0.0 },
    |x, a| a * x.clamp(-0.5 / a, 0.5 / a),
    "return select(0.0, alpha, abs(x) < 0.5 / alpha);";
}

/// (1 + erf(a x)) / 2, the integral by Simpson's rule (it serves tests, not training).
fn erf_primitive(x: f64, a: f64) -> f64 {
    const N: u32 = 1000;
    let z = (a * x).clamp(-6.0, 6.0);
    let h = z / f64::from(N);
    let f = |i: u32| (-(h * f64::from(i)).powi(2)).exp() * if i == 0 || i == N { 1.0 } else { f64::from(2 + i % 2 * 2) };
    0.5 + (0..=N).map(f).sum::<f64>() * h / 3.0 / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= 4e-7 * want, "{x}: {} {want}", exp(x));
        }
    }

    #[test]
    fn gradients_are_derivatives_of_their_primitives() {
        for &kind in SurrogateKind::ALL {
            for a in [1.0f64, 2.0, 4.0] {
                for i in -40..=40 {
                    // Off the corners of the piecewise ones.
                    let x = f64::from(i) * 0.05 + 0.0123;
                    let h = 1e-5;
                    let want = (kind.primitive(x + h, a) - kind.primitive(x - h, a)) / (2.0 * h);
                    let got = f64::from(kind.grad(x as f32, a as f32));
                    assert!((got - want).abs() < 2e-5 * a, "{kind:?} alpha {a} x {x}: {got} {want}");
                }
            }
        }
    }
}
