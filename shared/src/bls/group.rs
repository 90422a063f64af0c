//! Elements of BLS12-381's groups and of its scalar field, on `blst`.
//!
//! The one place that calls blst's C functions. Each call gets pointers to live, initialised, correctly typed values
//! and slices with their true length; blst keeps none of them. Multiplication is blst's constant-time ladder, safe for
//! secret scalars. All points are in the prime-order subgroup: decoding checks it, and every operation preserves it.
#![allow(unsafe_code)]

use super::{PublicKey, Signature};
use alloc::{vec, vec::Vec};
use blst::{
    BLST_ERROR, blst_fp, blst_fp2, blst_fp12, blst_fr, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine,
    blst_scalar,
};
use core::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bits of a scalar.
const SCALAR_BITS: usize = 255;

/// Why bytes are no group element.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// Wrong flag bits, a coordinate not below the modulus, or stray bits beside the point at infinity.
    #[error("not a canonical compressed point")]
    Encoding,
    /// A coordinate that no point of the curve has.
    #[error("not on the curve")]
    NotOnCurve,
    /// A point of small or composite order.
    #[error("not in the prime-order subgroup")]
    NotInSubgroup,
    /// The point at infinity where it is not allowed.
    #[error("the point at infinity")]
    Identity,
}

impl From<BLST_ERROR> for PointError {
    fn from(error: BLST_ERROR) -> Self {
        match error {
            BLST_ERROR::BLST_POINT_NOT_ON_CURVE => Self::NotOnCurve,
            BLST_ERROR::BLST_POINT_NOT_IN_GROUP => Self::NotInSubgroup,
            BLST_ERROR::BLST_PK_IS_INFINITY => Self::Identity,
            _ => Self::Encoding,
        }
    }
}

/// An integer modulo the group order. It may be a secret: it is wiped on drop and never printed.
#[derive(Clone, Default)]
pub struct Scalar(blst_fr);

/// A point of G1, in the subgroup. It may be a secret (the key of a sealed share): it is never copied without a word,
/// wiped on drop and never printed.
#[derive(Clone)]
pub struct G1(blst_p1);

/// A point of G2, in the subgroup. It may be a secret (a share of an exit signature), like a [`G1`].
#[derive(Clone)]
pub struct G2(blst_p2);

impl Scalar {
    /// Zero.
    pub fn zero() -> Self {
        Self::default()
    }

    /// A small number.
    pub fn from_u64(number: u64) -> Self {
        let mut fr = blst_fr::default();
        // SAFETY: blst reads four limbs from an array of four.
        unsafe { blst::blst_fr_from_uint64(&mut fr, [number, 0, 0, 0].as_ptr()) };
        Self(fr)
    }

    /// Reduces 64 uniform bytes; the bias is below 2^-250.
    pub fn from_wide(bytes: &[u8; 64]) -> Self {
        let mut scalar = blst_scalar::default();
        let mut fr = blst_fr::default();
        // SAFETY: the length given is that of the array.
        unsafe {
            blst::blst_scalar_from_le_bytes(&mut scalar, bytes.as_ptr(), bytes.len());
            blst::blst_fr_from_scalar(&mut fr, &scalar);
        }
        scalar.b.zeroize();
        Self(fr)
    }

    /// Reads 32 big-endian bytes; `None` if they are not below the group order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let mut scalar = blst_scalar::default();
        let mut fr = blst_fr::default();
        // SAFETY: 32 bytes are read from an array of 32; the others are live values.
        let canonical = unsafe {
            blst::blst_scalar_from_bendian(&mut scalar, bytes.as_ptr());
            blst::blst_fr_from_scalar(&mut fr, &scalar);
            blst::blst_scalar_fr_check(&scalar)
        };
        scalar.b.zeroize();
        canonical.then_some(Self(fr))
    }

    /// The 32 big-endian bytes of what is no secret; else see [`Self::to_secret_bytes`].
    pub fn to_bytes(&self) -> [u8; 32] {
        let mut bytes = *self.little_endian();
        bytes.reverse();
        bytes
    }

    /// The inverse, or `None` of zero.
    pub fn invert(&self) -> Option<Self> {
        if self.is_zero() {
            return None;
        }
        let mut inverse = blst_fr::default();
        // SAFETY: both are live values.
        unsafe { blst::blst_fr_eucl_inverse(&mut inverse, &self.0) };
        Some(Self(inverse))
    }

    /// Whether this is zero, in constant time.
    pub fn is_zero(&self) -> bool {
        // Montgomery form keeps zero as zero.
        self.0.l.iter().fold(0, |all, limb| all | limb) == 0
    }

    /// The 32 big-endian bytes of a secret, on the heap, so that no move leaves a copy behind.
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(self.little_endian().to_vec());
        bytes.reverse();
        bytes
    }

    fn little_endian(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        let mut scalar = blst_scalar::default();
        // SAFETY: both are live values.
        unsafe { blst::blst_scalar_from_fr(&mut scalar, &self.0) };
        bytes.copy_from_slice(&scalar.b);
        scalar.b.zeroize();
        bytes
    }
}

impl Zeroize for Scalar {
    fn zeroize(&mut self) {
        self.0.l.zeroize();
    }
}

impl Drop for Scalar {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for Scalar {}

impl PartialEq for Scalar {
    /// In constant time: Montgomery form is unique.
    fn eq(&self, other: &Self) -> bool {
        self.0.l.iter().zip(&other.0.l).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }
}

impl Eq for Scalar {}

/// Shows nothing: a scalar may be a key share.
impl core::fmt::Debug for Scalar {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Scalar(..)")
    }
}

macro_rules! scalar_operation {
    ($operation:ident, $method:ident, $assign:ident, $assign_method:ident, $call:path) => {
        impl<'a> $assign<&'a Scalar> for Scalar {
            fn $assign_method(&mut self, other: &'a Scalar) {
                // No copy of the left operand, which may be a secret.
                let this: *mut blst_fr = &mut self.0;
                // SAFETY: both are live values; blst allows the result to overwrite an operand.
                unsafe { $call(this, this, &other.0) };
            }
        }
        impl $assign for Scalar {
            fn $assign_method(&mut self, other: Scalar) {
                $assign::$assign_method(self, &other);
            }
        }
        impl<'a> $operation<&'a Scalar> for Scalar {
            type Output = Scalar;
            fn $method(mut self, other: &'a Scalar) -> Scalar {
                $assign::$assign_method(&mut self, other);
                self
            }
        }
        impl $operation for Scalar {
            type Output = Scalar;
            fn $method(self, other: Scalar) -> Scalar {
                $operation::$method(self, &other)
            }
        }
    };
}
scalar_operation!(Add, add, AddAssign, add_assign, blst::blst_fr_add);
scalar_operation!(Sub, sub, SubAssign, sub_assign, blst::blst_fr_sub);
scalar_operation!(Mul, mul, MulAssign, mul_assign, blst::blst_fr_mul);

macro_rules! group {
    ($point:ident, $encoded:ident, $affine:ident, $raw:ident, $generator:path, $uncompress:path, $in_group:path,
     $from_affine:path, $compress:path, $add:path, $negate:path, $mult:path, $is_inf:path, $wipe:expr) => {
        impl $point {
            /// The group's fixed generator.
            pub fn generator() -> Self {
                // SAFETY: blst returns a pointer to a constant.
                Self(unsafe { *$generator() })
            }

            /// The point at infinity.
            pub fn identity() -> Self {
                Self($raw::default())
            }

            /// Whether this is the point at infinity.
            pub fn is_identity(&self) -> bool {
                // SAFETY: a live value.
                unsafe { $is_inf(&self.0) }
            }

            /// Reads a compressed point: canonical, on the curve and in the subgroup. The identity is a point.
            pub fn decode(bytes: &$encoded) -> Result<Self, PointError> {
                Self::from_bytes(&bytes.0)
            }

            /// Reads a compressed point where it lies, which may be a secret's place.
            pub fn from_bytes(bytes: &[u8; $encoded::SIZE]) -> Result<Self, PointError> {
                let mut affine = $affine::default();
                let mut point = Self::identity();
                // SAFETY: as many bytes are read as the encoding has (its first byte must say 'compressed', checked
                // by blst); the others are live values.
                let result = unsafe {
                    match $uncompress(&mut affine, bytes.as_ptr()) {
                        BLST_ERROR::BLST_SUCCESS if $in_group(&affine) => {
                            $from_affine(&mut point.0, &affine);
                            Ok(point)
                        }
                        BLST_ERROR::BLST_SUCCESS => Err(PointError::NotInSubgroup),
                        error => Err(error.into()),
                    }
                };
                [&mut affine.x, &mut affine.y].into_iter().for_each($wipe);
                result
            }

            /// The compressed form of a secret, on the heap, so that no move leaves a copy behind.
            pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
                let mut bytes = Zeroizing::new(vec![0; $encoded::SIZE]);
                // SAFETY: as many bytes are written as the vector has.
                unsafe { $compress(bytes.as_mut_ptr(), &self.0) };
                bytes
            }

            /// The compressed form.
            pub fn encode(&self) -> $encoded {
                let mut bytes = [0; $encoded::SIZE];
                // SAFETY: as many bytes are written as the array has.
                unsafe { $compress(bytes.as_mut_ptr(), &self.0) };
                $encoded(bytes)
            }

            /// This point times a short public number, in time that depends only on the number's length.
            pub fn times(&self, number: impl Into<u128>) -> Self {
                let (mut product, number) = ($raw::default(), number.into());
                let bits = (u128::BITS - number.leading_zeros()) as usize;
                // SAFETY: no more bytes are read than so many bits have, from an array of all.
                unsafe { $mult(&mut product, &self.0, number.to_le_bytes().as_ptr(), bits.max(1)) };
                Self(product)
            }
        }

        impl Zeroize for $point {
            fn zeroize(&mut self) {
                let $raw { x, y, z } = &mut self.0;
                [x, y, z].into_iter().for_each($wipe);
            }
        }

        impl Drop for $point {
            fn drop(&mut self) {
                self.zeroize();
            }
        }

        impl ZeroizeOnDrop for $point {}

        impl Default for $point {
            fn default() -> Self {
                Self::identity()
            }
        }

        impl PartialEq for $point {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }

        impl Eq for $point {}

        impl core::fmt::Debug for $point {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($point), "(..)"))
            }
        }

        impl Neg for $point {
            type Output = Self;
            fn neg(mut self) -> Self {
                // SAFETY: a live value.
                unsafe { $negate(&mut self.0, true) };
                self
            }
        }

        impl Neg for &$point {
            type Output = $point;
            fn neg(self) -> $point {
                -self.clone()
            }
        }

        impl<'a> AddAssign<&'a Self> for $point {
            fn add_assign(&mut self, other: &'a Self) {
                let this: *mut $raw = &mut self.0;
                // SAFETY: both are live values; blst allows the result to overwrite an operand. This addition is
                // complete.
                unsafe { $add(this, this, &other.0) };
            }
        }

        impl<'a> SubAssign<&'a Self> for $point {
            fn sub_assign(&mut self, other: &'a Self) {
                *self += &-other;
            }
        }

        impl AddAssign for $point {
            fn add_assign(&mut self, other: Self) {
                *self += &other;
            }
        }

        impl SubAssign for $point {
            fn sub_assign(&mut self, other: Self) {
                *self -= &other;
            }
        }

        impl<'a> Add<&'a Self> for $point {
            type Output = Self;
            fn add(mut self, other: &'a Self) -> Self {
                self += other;
                self
            }
        }

        impl<'a> Sub<&'a Self> for $point {
            type Output = Self;
            fn sub(mut self, other: &'a Self) -> Self {
                self -= other;
                self
            }
        }

        impl Add for $point {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                self + &other
            }
        }

        impl Sub for $point {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self - &other
            }
        }

        impl<'a> Mul<&'a Scalar> for &$point {
            type Output = $point;
            /// In constant time.
            fn mul(self, scalar: &'a Scalar) -> $point {
                let mut product = $point::identity();
                let bytes = scalar.little_endian();
                // SAFETY: 255 bits are read from 32 bytes.
                unsafe { $mult(&mut product.0, &self.0, bytes.as_ptr(), SCALAR_BITS) };
                product
            }
        }

        impl<'a> Mul<&'a Scalar> for $point {
            type Output = Self;
            /// In constant time.
            fn mul(self, scalar: &'a Scalar) -> Self {
                &self * scalar
            }
        }
    };
}
group!(
    G1,
    PublicKey,
    blst_p1_affine,
    blst_p1,
    blst::blst_p1_generator,
    blst::blst_p1_uncompress,
    blst::blst_p1_affine_in_g1,
    blst::blst_p1_from_affine,
    blst::blst_p1_compress,
    blst::blst_p1_add_or_double,
    blst::blst_p1_cneg,
    blst::blst_p1_mult,
    blst::blst_p1_is_inf,
    |coordinate: &mut blst_fp| coordinate.l.zeroize()
);
group!(
    G2,
    Signature,
    blst_p2_affine,
    blst_p2,
    blst::blst_p2_generator,
    blst::blst_p2_uncompress,
    blst::blst_p2_affine_in_g2,
    blst::blst_p2_from_affine,
    blst::blst_p2_compress,
    blst::blst_p2_add_or_double,
    blst::blst_p2_cneg,
    blst::blst_p2_mult,
    blst::blst_p2_is_inf,
    |coordinate: &mut blst_fp2| coordinate.fp.iter_mut().for_each(|half| half.l.zeroize())
);

impl G2 {
    /// Hashes a message to the curve (RFC 9380, `BLS12381G2_XMD:SHA-256_SSWU_RO_`) under a domain tag.
    pub fn hash(message: &[u8], domain: &[u8]) -> Self {
        let mut point = blst_p2::default();
        // SAFETY: the lengths are those of the slices; the augmentation is empty.
        unsafe {
            blst::blst_hash_to_g2(
                &mut point,
                message.as_ptr(),
                message.len(),
                domain.as_ptr(),
                domain.len(),
                core::ptr::null(),
                0,
            );
        }
        Self(point)
    }
}

/// Whether `e(a1, a2) = e(b1, b2)`: two Miller loops, one final exponentiation.
pub fn pairings_equal(a1: &G1, a2: &G2, b1: &G1, b2: &G2) -> bool {
    blst_fp12::finalverify(&miller_loop(a1, a2), &miller_loop(b1, b2))
}

fn miller_loop(first: &G1, second: &G2) -> blst_fp12 {
    let (mut p, mut q) = (blst_p1_affine::default(), blst_p2_affine::default());
    // SAFETY: all are live values.
    unsafe {
        blst::blst_p1_to_affine(&mut p, &first.0);
        blst::blst_p2_to_affine(&mut q, &second.0);
    }
    let product = blst_fp12::miller_loop(&q, &p);
    // The second may be a share of an exit.
    q.x.fp.iter_mut().chain(&mut q.y.fp).for_each(|half| half.l.zeroize());
    product
}
