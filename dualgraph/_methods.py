"""PyTorch's methods of Tensor, given their place on the class.

The bodies live in :mod:`dualgraph.functions`, by family, so that ``x.sum(0)`` and ``dg.sum(x, 0)``
are one function. Kept apart from the class itself, where names such as `float` and `sum` are still
the builtins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .functions import (
    arithmetic,
    comparison,
    convert,
    copies,
    creation,
    cumulative,
    data,
    gathering,
    histograms,
    indexing,
    info,
    inplace,
    joining,
    linalg,
    native,
    ordering,
    parts,
    pointwise,
    positions,
    random,
    random_fill,
    reduction,
    shape,
    signal,
    special,
    statistics,
    strided,
)
from .functions.inplace import in_place, in_place_operator
from .functions.own_shape import in_own_shape
from .linalg import legacy

if TYPE_CHECKING:
    from ._tensor import Tensor


def _operator(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Tensor]:
    """`function`, known to give a tensor wherever it does not leave the work to the other side."""
    return function


def _property(function: Callable[[Any], Tensor]) -> Tensor:
    """A property; what it is to a type checker is what reading it gives."""
    return property(function)  # type: ignore[return-value]


class Methods:
    """Operators and methods of Tensor, by family."""

    __slots__ = ()

    # -- operators ---------------------------------------------------------------------------------

    __add__ = _operator(arithmetic.operator_add)
    __radd__ = _operator(arithmetic.operator_radd)
    __sub__ = _operator(arithmetic.operator_sub)
    __rsub__ = _operator(arithmetic.operator_rsub)
    __mul__ = _operator(arithmetic.operator_mul)
    __rmul__ = _operator(arithmetic.operator_rmul)
    __truediv__ = _operator(arithmetic.operator_truediv)
    __rtruediv__ = __rdiv__ = _operator(arithmetic.operator_rtruediv)
    __floordiv__ = _operator(arithmetic.operator_floordiv)
    __rfloordiv__ = _operator(arithmetic.operator_rfloordiv)
    __mod__ = _operator(arithmetic.operator_mod)
    __rmod__ = _operator(arithmetic.operator_rmod)
    __pow__ = _operator(arithmetic.operator_pow)
    __rpow__ = _operator(arithmetic.operator_rpow)
    __matmul__ = _operator(linalg.operator_matmul)
    __rmatmul__ = _operator(linalg.operator_rmatmul)
    __neg__ = pointwise.neg
    __pos__ = pointwise.positive
    __abs__ = pointwise.abs
    __invert__ = comparison.bitwise_not
    __and__ = _operator(comparison.operator_and)
    __rand__ = _operator(comparison.operator_rand)
    __or__ = _operator(comparison.operator_or)
    __ror__ = _operator(comparison.operator_ror)
    __xor__ = _operator(comparison.operator_xor)
    __rxor__ = _operator(comparison.operator_rxor)
    __lshift__ = _operator(comparison.operator_lshift)
    __rlshift__ = _operator(comparison.operator_rlshift)
    __rshift__ = _operator(comparison.operator_rshift)
    __rrshift__ = _operator(comparison.operator_rrshift)
    __eq__ = _operator(comparison.operator_eq)  # type: ignore[assignment]
    __ne__ = _operator(comparison.operator_ne)  # type: ignore[assignment]
    __lt__ = _operator(comparison.operator_lt)
    __le__ = _operator(comparison.operator_le)
    __gt__ = _operator(comparison.operator_gt)
    __ge__ = _operator(comparison.operator_ge)
    __getitem__ = _operator(indexing.getitem)
    __setitem__ = indexing.setitem

    __iadd__ = in_place_operator(arithmetic.add)
    __isub__ = in_place_operator(arithmetic.sub)
    __imul__ = in_place_operator(arithmetic.mul)
    __itruediv__ = in_place_operator(arithmetic.div)
    __ifloordiv__ = in_place_operator(arithmetic.floor_divide)
    __imod__ = in_place_operator(arithmetic.remainder)
    __ipow__ = in_place_operator(arithmetic.pow)
    __iand__ = in_place_operator(comparison.bitwise_and)
    __ior__ = in_place_operator(comparison.bitwise_or)
    __ixor__ = in_place_operator(comparison.bitwise_xor)
    __ilshift__ = in_place_operator(comparison.bitwise_left_shift)
    __irshift__ = in_place_operator(comparison.bitwise_right_shift)

    # -- making tensors like this one --------------------------------------------------------------

    new_empty = creation.new_empty
    new_empty_strided = strided.new_empty_strided
    new_full = creation.new_full
    new_ones = creation.new_ones
    new_zeros = creation.new_zeros
    new_tensor = data.new_tensor

    # -- random ------------------------------------------------------------------------------------

    bernoulli = random.bernoulli
    bernoulli_ = random_fill.bernoulli_
    cauchy_ = random_fill.cauchy_
    exponential_ = random_fill.exponential_
    geometric_ = random_fill.geometric_
    log_normal_ = random_fill.log_normal_
    multinomial = random.multinomial
    normal_ = random_fill.normal_
    random_ = random_fill.random_
    uniform_ = random_fill.uniform_

    # -- facts -------------------------------------------------------------------------------------

    is_nonzero = info.is_nonzero
    is_same_size = info.is_same_size
    is_signed = info.is_signed

    # -- functions of one operand ------------------------------------------------------------------

    abs = pointwise.abs
    absolute = pointwise.absolute
    acos = pointwise.acos
    acosh = pointwise.acosh
    angle = pointwise.angle
    arccos = pointwise.arccos
    arccosh = pointwise.arccosh
    arcsin = pointwise.arcsin
    arcsinh = pointwise.arcsinh
    arctan = pointwise.arctan
    arctanh = pointwise.arctanh
    asin = pointwise.asin
    asinh = pointwise.asinh
    atan = pointwise.atan
    atanh = pointwise.atanh
    ceil = pointwise.ceil
    clamp = pointwise.clamp
    clamp_max = pointwise.clamp_max
    clamp_min = pointwise.clamp_min
    clip = pointwise.clip
    conj = pointwise.conj
    cos = pointwise.cos
    cosh = pointwise.cosh
    deg2rad = pointwise.deg2rad
    erf = pointwise.erf
    erfc = pointwise.erfc
    exp = pointwise.exp
    exp2 = pointwise.exp2
    expm1 = pointwise.expm1
    fix = pointwise.fix
    floor = pointwise.floor
    frac = pointwise.frac
    log = pointwise.log
    log10 = pointwise.log10
    log1p = pointwise.log1p
    log2 = pointwise.log2
    log_softmax = pointwise.log_softmax
    logit = pointwise.logit
    nan_to_num = pointwise.nan_to_num
    neg = pointwise.neg
    negative = pointwise.negative
    positive = pointwise.positive
    rad2deg = pointwise.rad2deg
    reciprocal = pointwise.reciprocal
    relu = pointwise.relu
    resolve_conj = pointwise.resolve_conj
    resolve_neg = pointwise.resolve_neg
    round = pointwise.round
    rsqrt = pointwise.rsqrt
    sgn = pointwise.sgn
    sigmoid = pointwise.sigmoid
    sign = pointwise.sign
    sin = pointwise.sin
    sinc = pointwise.sinc
    sinh = pointwise.sinh
    softmax = pointwise.softmax
    sqrt = pointwise.sqrt
    square = pointwise.square
    tan = pointwise.tan
    tanh = pointwise.tanh
    trunc = pointwise.trunc
    real = _property(pointwise.real)
    imag = _property(pointwise.imag)
    abs_ = in_place(pointwise.abs)
    absolute_ = in_place(pointwise.absolute)
    acos_ = in_place(pointwise.acos)
    acosh_ = in_place(pointwise.acosh)
    arccos_ = in_place(pointwise.arccos)
    arccosh_ = in_place(pointwise.arccosh)
    arcsin_ = in_place(pointwise.arcsin)
    arcsinh_ = in_place(pointwise.arcsinh)
    arctan_ = in_place(pointwise.arctan)
    arctanh_ = in_place(pointwise.arctanh)
    asin_ = in_place(pointwise.asin)
    asinh_ = in_place(pointwise.asinh)
    atan_ = in_place(pointwise.atan)
    atanh_ = in_place(pointwise.atanh)
    ceil_ = in_place(pointwise.ceil)
    clamp_ = in_place(pointwise.clamp, composed=True)
    clamp_max_ = in_place(pointwise.clamp_max, composed=True)
    clamp_min_ = in_place(pointwise.clamp_min, composed=True)
    clip_ = in_place(pointwise.clip, composed=True)
    cos_ = in_place(pointwise.cos)
    cosh_ = in_place(pointwise.cosh)
    deg2rad_ = in_place(pointwise.deg2rad)
    erf_ = in_place(pointwise.erf)
    erfc_ = in_place(pointwise.erfc)
    exp_ = in_place(pointwise.exp)
    exp2_ = in_place(pointwise.exp2)
    expm1_ = in_place(pointwise.expm1)
    fix_ = in_place(pointwise.fix)
    floor_ = in_place(pointwise.floor)
    frac_ = in_place(pointwise.frac, composed=True)
    log_ = in_place(pointwise.log)
    log10_ = in_place(pointwise.log10)
    log1p_ = in_place(pointwise.log1p)
    log2_ = in_place(pointwise.log2)
    logit_ = in_place(pointwise.logit, composed=True)
    nan_to_num_ = in_place(pointwise.nan_to_num, composed=True)
    neg_ = in_place(pointwise.neg)
    negative_ = in_place(pointwise.negative)
    rad2deg_ = in_place(pointwise.rad2deg)
    reciprocal_ = in_place(pointwise.reciprocal)
    relu_ = in_place(pointwise.relu)
    round_ = in_place(pointwise.round, composed=True)
    rsqrt_ = in_place(pointwise.rsqrt)
    sgn_ = in_place(pointwise.sgn)
    sigmoid_ = in_place(pointwise.sigmoid)
    sign_ = in_place(pointwise.sign)
    sin_ = in_place(pointwise.sin)
    sinc_ = in_place(pointwise.sinc, composed=True)
    sinh_ = in_place(pointwise.sinh)
    sqrt_ = in_place(pointwise.sqrt)
    square_ = in_place(pointwise.square, composed=True)
    tan_ = in_place(pointwise.tan)
    tanh_ = in_place(pointwise.tanh)
    trunc_ = in_place(pointwise.trunc)

    # -- special functions -------------------------------------------------------------------------

    digamma = special.digamma
    erfinv = special.erfinv
    i0 = special.i0
    igamma = special.igamma
    igammac = special.igammac
    lgamma = special.lgamma
    mvlgamma = special.mvlgamma
    polygamma = special.polygamma_method
    digamma_ = in_place(special.digamma)
    erfinv_ = in_place(special.erfinv)
    i0_ = in_place(special.i0)
    igamma_ = in_place(special.igamma)
    igammac_ = in_place(special.igammac)
    lgamma_ = in_place(special.lgamma)
    mvlgamma_ = in_place(special.mvlgamma, composed=True)
    polygamma_ = in_place(special.polygamma_method)

    # -- arithmetic --------------------------------------------------------------------------------

    add = arithmetic.add
    addcdiv = arithmetic.addcdiv
    addcmul = arithmetic.addcmul
    arctan2 = arithmetic.arctan2
    atan2 = arithmetic.atan2
    copysign = arithmetic.copysign
    div = arithmetic.div
    divide = arithmetic.divide
    float_power = arithmetic.float_power
    floor_divide = arithmetic.floor_divide
    fmax = arithmetic.fmax
    fmin = arithmetic.fmin
    fmod = arithmetic.fmod
    frexp = arithmetic.frexp
    gcd = arithmetic.gcd
    hypot = arithmetic.hypot
    hardshrink = native.hardshrink
    prelu = native.prelu
    lerp = arithmetic.lerp
    heaviside = arithmetic.heaviside
    lcm = arithmetic.lcm
    ldexp = arithmetic.ldexp
    logaddexp = arithmetic.logaddexp
    logaddexp2 = arithmetic.logaddexp2
    maximum = arithmetic.maximum
    minimum = arithmetic.minimum
    mul = arithmetic.mul
    multiply = arithmetic.multiply
    nextafter = arithmetic.nextafter
    pow = arithmetic.pow
    remainder = arithmetic.remainder
    signbit = arithmetic.signbit
    sub = arithmetic.sub
    subtract = arithmetic.subtract
    true_divide = arithmetic.true_divide
    xlogy = arithmetic.xlogy
    add_ = in_place(arithmetic.add)
    addcdiv_ = in_place(arithmetic.addcdiv, composed=True)
    addcmul_ = in_place(arithmetic.addcmul, composed=True)
    arctan2_ = in_place(arithmetic.arctan2)
    atan2_ = in_place(arithmetic.atan2)
    copysign_ = in_place(arithmetic.copysign, composed=True)
    div_ = in_place(arithmetic.div)
    divide_ = in_place(arithmetic.divide)
    float_power_ = in_place(arithmetic.float_power)
    floor_divide_ = in_place(arithmetic.floor_divide)
    fmod_ = in_place(arithmetic.fmod)
    gcd_ = in_place(arithmetic.gcd)
    heaviside_ = in_place(arithmetic.heaviside, composed=True)
    hypot_ = in_place(arithmetic.hypot, composed=True)
    lcm_ = in_place(arithmetic.lcm)
    ldexp_ = in_place(arithmetic.ldexp, composed=True)
    lerp_ = in_place(arithmetic.lerp, composed=True)
    mul_ = in_place(arithmetic.mul)
    multiply_ = in_place(arithmetic.multiply)
    nextafter_ = in_place(arithmetic.nextafter)
    pow_ = in_place(arithmetic.pow)
    remainder_ = in_place(arithmetic.remainder)
    sub_ = in_place(arithmetic.sub)
    subtract_ = in_place(arithmetic.subtract)
    true_divide_ = in_place(arithmetic.true_divide)
    xlogy_ = in_place(arithmetic.xlogy, composed=True)

    # -- comparison, logic, choice -----------------------------------------------------------------

    allclose = comparison.allclose
    bitwise_and = comparison.bitwise_and
    bitwise_left_shift = comparison.bitwise_left_shift
    bitwise_not = comparison.bitwise_not
    bitwise_or = comparison.bitwise_or
    bitwise_right_shift = comparison.bitwise_right_shift
    bitwise_xor = comparison.bitwise_xor
    eq = comparison.eq
    equal = comparison.equal
    ge = comparison.ge
    greater = comparison.greater
    greater_equal = comparison.greater_equal
    gt = comparison.gt
    isclose = comparison.isclose
    isfinite = comparison.isfinite
    isinf = comparison.isinf
    isnan = comparison.isnan
    isneginf = comparison.isneginf
    isposinf = comparison.isposinf
    isreal = comparison.isreal
    le = comparison.le
    less = comparison.less
    less_equal = comparison.less_equal
    logical_and = comparison.logical_and
    logical_not = comparison.logical_not
    logical_or = comparison.logical_or
    logical_xor = comparison.logical_xor
    lt = comparison.lt
    masked_fill = comparison.masked_fill
    ne = comparison.ne
    not_equal = comparison.not_equal
    where = comparison.where_method
    bitwise_and_ = in_place(comparison.bitwise_and)
    bitwise_left_shift_ = in_place(comparison.bitwise_left_shift)
    bitwise_not_ = in_place(comparison.bitwise_not)
    bitwise_or_ = in_place(comparison.bitwise_or)
    bitwise_right_shift_ = in_place(comparison.bitwise_right_shift)
    bitwise_xor_ = in_place(comparison.bitwise_xor)
    eq_ = in_place(comparison.eq)
    ge_ = in_place(comparison.ge)
    greater_ = in_place(comparison.greater)
    greater_equal_ = in_place(comparison.greater_equal)
    gt_ = in_place(comparison.gt)
    le_ = in_place(comparison.le)
    less_ = in_place(comparison.less)
    less_equal_ = in_place(comparison.less_equal)
    logical_and_ = in_place(comparison.logical_and)
    logical_not_ = in_place(comparison.logical_not)
    logical_or_ = in_place(comparison.logical_or)
    logical_xor_ = in_place(comparison.logical_xor)
    lt_ = in_place(comparison.lt)
    masked_fill_ = in_place(comparison.masked_fill)
    ne_ = in_place(comparison.ne)
    not_equal_ = in_place(comparison.not_equal)

    # -- reductions --------------------------------------------------------------------------------

    all = reduction.all
    amax = reduction.amax
    amin = reduction.amin
    aminmax = reduction.aminmax
    any = reduction.any
    argmax = reduction.argmax
    argmin = reduction.argmin
    count_nonzero = reduction.count_nonzero
    cummax = cumulative.cummax
    cummin = cumulative.cummin
    cumprod = reduction.cumprod
    cumsum = reduction.cumsum
    diff = reduction.diff
    hash_tensor = reduction.hash_tensor
    logcumsumexp = cumulative.logcumsumexp
    logsumexp = reduction.logsumexp
    max = reduction.max
    mean = reduction.mean
    min = reduction.min
    nanmean = reduction.nanmean
    corrcoef = statistics.corrcoef
    cov = statistics.cov
    nanmedian = statistics.nanmedian
    nanquantile = statistics.nanquantile
    nansum = reduction.nansum
    prod = reduction.prod
    sum = reduction.sum
    cumprod_ = in_place(reduction.cumprod)
    cumsum_ = in_place(reduction.cumsum)

    # -- statistics --------------------------------------------------------------------------------

    dist = statistics.dist
    histc = histograms.histc
    histogram = histograms.histogram
    kthvalue = statistics.kthvalue
    median = statistics.median
    mode = cumulative.mode
    norm = statistics.norm
    quantile = statistics.quantile
    std = statistics.std
    var = statistics.var

    # -- shape -------------------------------------------------------------------------------------

    adjoint = shape.adjoint
    broadcast_to = shape.broadcast_to
    chunk = parts.chunk
    clone = shape.clone
    contiguous = shape.contiguous
    data_ptr = shape.data_ptr
    expand = shape.expand
    expand_as = shape.expand_as
    flatten = shape.flatten
    is_contiguous = shape.is_contiguous
    moveaxis = shape.moveaxis
    movedim = shape.movedim
    narrow = parts.narrow
    permute = shape.permute
    ravel = shape.ravel
    repeat = shape.repeat
    reshape = shape.reshape
    reshape_as = shape.reshape_as
    select = parts.select
    split = parts.split
    squeeze = shape.squeeze
    squeeze_ = in_own_shape(shape.squeeze)
    storage_offset = shape.storage_offset
    stride = shape.stride
    swapaxes = shape.swapaxes
    swapaxes_ = in_own_shape(shape.swapaxes)
    swapdims = shape.swapdims
    swapdims_ = in_own_shape(shape.swapdims)
    t = shape.t
    t_ = in_own_shape(shape.t)
    dsplit = parts.dsplit
    hsplit = parts.hsplit
    split_with_sizes = parts.split_with_sizes
    tensor_split = parts.tensor_split
    unsafe_chunk = copies.unsafe_chunk
    unsafe_split = copies.unsafe_split
    unsafe_split_with_sizes = copies.unsafe_split_with_sizes
    vsplit = parts.vsplit
    diagonal_scatter = copies.diagonal_scatter
    narrow_copy = copies.narrow_copy
    select_scatter = copies.select_scatter
    slice_scatter = copies.slice_scatter
    tile = shape.tile
    transpose = shape.transpose
    transpose_ = in_own_shape(shape.transpose)
    unbind = parts.unbind
    unflatten = shape.unflatten
    unfold = parts.unfold
    unsqueeze = shape.unsqueeze
    unsqueeze_ = in_own_shape(shape.unsqueeze)
    view = shape.view
    view_as = shape.view_as
    T = _property(shape.reverse_dims)
    mT = _property(shape.matrix_transpose)
    H = _property(shape.adjoint)
    mH = _property(shape.adjoint)

    as_strided = strided.as_strided
    as_strided_ = in_own_shape(strided.as_strided)
    as_strided_scatter = strided.as_strided_scatter
    resize_ = strided.resize_
    resize_as_ = strided.resize_as_
    sum_to_size = strided.sum_to_size

    # -- rearranging -------------------------------------------------------------------------------

    diag = joining.diag
    diag_embed = joining.diag_embed
    diagflat = joining.diagflat
    diagonal = joining.diagonal
    flip = joining.flip
    fliplr = joining.fliplr
    flipud = joining.flipud
    roll = joining.roll
    rot90 = joining.rot90
    tril = joining.tril
    triu = joining.triu
    tril_ = in_place(joining.tril)
    triu_ = in_place(joining.triu)

    # -- gathers and scatters ----------------------------------------------------------------------

    argwhere = gathering.argwhere
    gather = gathering.gather
    index_add = gathering.index_add
    index_copy = gathering.index_copy
    index_fill = gathering.index_fill
    index_put = gathering.index_put
    index_reduce = gathering.index_reduce
    index_select = gathering.index_select
    masked_scatter = gathering.masked_scatter
    masked_select = gathering.masked_select
    nonzero = gathering.nonzero
    nonzero_static = positions.nonzero_static
    put = gathering.put
    renorm = gathering.renorm
    repeat_interleave = gathering.repeat_interleave
    scatter = gathering.scatter
    scatter_add = gathering.scatter_add
    scatter_reduce = gathering.scatter_reduce
    take = gathering.take
    take_along_dim = gathering.take_along_dim
    index_add_ = in_place(gathering.index_add)
    index_copy_ = in_place(gathering.index_copy)
    index_fill_ = in_place(gathering.index_fill)
    index_put_ = in_place(gathering.index_put)
    index_reduce_ = in_place(gathering.index_reduce, composed=True)
    put_ = in_place(gathering.put, composed=True)
    renorm_ = in_place(gathering.renorm, composed=True)
    masked_scatter_ = in_place(gathering.masked_scatter)
    scatter_ = in_place(gathering.scatter)
    scatter_add_ = in_place(gathering.scatter_add)
    scatter_reduce_ = in_place(gathering.scatter_reduce, composed=True)

    # -- order -------------------------------------------------------------------------------------

    argsort = ordering.argsort
    bincount = ordering.bincount
    msort = ordering.msort
    sort = ordering.sort
    topk = ordering.topk
    unique = ordering.unique
    unique_consecutive = ordering.unique_consecutive

    # -- linear algebra ----------------------------------------------------------------------------

    addbmm = linalg.addbmm
    addmm = linalg.addmm
    addmv = linalg.addmv
    addr = linalg.addr
    baddbmm = linalg.baddbmm
    bmm = linalg.bmm
    cross = linalg.cross
    dot = linalg.dot
    ger = linalg.ger
    inner = linalg.inner
    kron = linalg.kron
    matmul = linalg.matmul
    matrix_power = linalg.matrix_power
    mm = linalg.mm
    mv = linalg.mv
    outer = linalg.outer
    trace = linalg.trace
    vdot = linalg.vdot
    addbmm_ = in_place(linalg.addbmm, composed=True)
    addmm_ = in_place(linalg.addmm, composed=True)
    addmv_ = in_place(linalg.addmv, composed=True)
    addr_ = in_place(linalg.addr, composed=True)
    baddbmm_ = in_place(linalg.baddbmm, composed=True)

    istft = signal.istft
    stft = signal.stft

    # -- decompositions ----------------------------------------------------------------------------

    cholesky = legacy.cholesky
    cholesky_inverse = legacy.cholesky_inverse
    cholesky_solve = legacy.cholesky_solve
    det = legacy.det
    geqrf = legacy.geqrf
    inverse = legacy.inverse
    logdet = legacy.logdet
    lu = legacy.lu
    lu_solve = legacy.lu_solve
    matrix_exp = legacy.matrix_exp
    orgqr = legacy.orgqr
    ormqr = legacy.ormqr
    pinverse = legacy.pinverse
    qr = legacy.qr
    slogdet = legacy.slogdet
    svd = legacy.svd
    triangular_solve = legacy.triangular_solve

    # -- dtype and device --------------------------------------------------------------------------

    bfloat16 = convert.bfloat16
    bool = convert.bool
    byte = convert.byte
    cdouble = convert.cdouble
    cfloat = convert.cfloat
    char = convert.char
    cpu = convert.cpu
    cuda = convert.cuda
    double = convert.double
    float = convert.float
    half = convert.half
    int = convert.int
    long = convert.long
    pin_memory = convert.pin_memory
    short = convert.short
    to = convert.to
    type = convert.type
    type_as = convert.type_as

    # -- writing values ----------------------------------------------------------------------------

    copy_ = inplace.copy_
    fill_ = inplace.fill_
    fill_diagonal_ = inplace.fill_diagonal_
    zero_ = inplace.zero_
