//! Surrogate gradients: what backward takes for the derivative of the firing step, as functions of x = H - v_threshold.
//!
//! The formulas are SpikingJelly's; those here are checked against fixtures made with it, and each against the derivative of its primitive.
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

/// e^-x for x >= 0, of which it takes 87 at most, without branches: to a tenth of a millionth of itself near 0, and x times that further out.
///
/// It is 2^n 2^f with f in [-1/2, 1/2], and 2^f a polynomial whose largest relative error there is least; the standard library's does not
/// vectorise.
#[inline(always)]
pub fn decay(x: f32) -> f32 {
    let y = x.min(87.0) * -std::f32::consts::LOG2_E;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    let shifted = y + 12_582_912.0;
    let f = y - (shifted - 12_582_912.0);
    let coefficients = [9.669_709e-3, 5.550_56e-2, 0.240_222_82, std::f32::consts::LN_2, 1.0];
    // Each step rounded once: one instruction on any processor of the last ten years, and the same result where it is a call.
    let p = coefficients.into_iter().fold(1.330_026_4e-3f32, |p, c| p.mul_add(f, c));
    // The low bits of the sum are those of n: added to the exponent they multiply by 2^n.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The logistic function.
#[inline(always)]
pub fn logistic(x: f32) -> f32 {
    let e = decay(x.abs());
    if x < 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) }
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
    /// a s(ax) (1 - s(ax)), s the logistic function; with e = exp(-|ax|) it is a e / (1 + e)^2, which keeps its digits where s is near 1.
    Sigmoid("sigmoid"),
    |x, a| { let e = decay((a * x).abs()); let s = 1.0 / (1.0 + e); a * s * (e * s) },
    |x, a| 1.0 / (1.0 + (-a * x).exp()),
    "let e = exp(max(-abs(alpha * x), -87.0)); let s = 1.0 / (1.0 + e); return alpha * s * (e * s);";
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
    |x, a| a * decay(a * a * x * x) * 0.564_189_6,
    erf_primitive,
    "return alpha * exp(max(-alpha * alpha * x * x, -87.0)) * 0.5641895835477563;";
    /// a exp(-a |x|) / 2.
    PiecewiseExp("piecewise_exp"),
    |x, a| a * decay(a * x.abs()) * 0.5,
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
    fn decay_is_close() {
        for i in 0..8700 {
            let x = i as f32 * 0.01;
            let want = f64::from(-x).exp();
            let bound = (2.5e-7 + 7e-8 * f64::from(x)) * want;
            assert!((f64::from(decay(x)) - want).abs() <= bound, "{x}: {} {want}", decay(x));
        }
        assert!(decay(1e9) < 1e-37 && decay(f32::INFINITY) < 1e-37);
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
