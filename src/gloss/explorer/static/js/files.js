// Activation vectors from dropped files, read in the page: npy and safetensors.

/** @typedef {{name: string, rows: number, width: number, at: (row: number) => number[]}} Vectors */

/** Says what is wrong with a file, in words for the user. */
export class FileProblem extends Error {}

/**
 * @param {string} name
 * @param {ArrayBuffer} buffer
 * @returns {Vectors[]}
 */
export function readVectors(name, buffer) {
  if (/\.npy$/i.test(name)) return [readNpy(name, buffer)];
  if (/\.safetensors$/i.test(name)) return readSafetensors(buffer);
  throw new FileProblem(
    `${name} is not a file of vectors. Drop a .npy, .safetensors or .parquet file.`,
  );
}

/** @param {string} name @param {ArrayBuffer} buffer @returns {Vectors} */
export function readNpy(name, buffer) {
  const bytes = new Uint8Array(buffer),
    view = new DataView(buffer);
  if (bytes.length < 10 || new TextDecoder("latin1").decode(bytes.subarray(1, 6)) !== "NUMPY")
    throw new FileProblem(`${name} is not a NumPy file.`);
  const long = bytes[6] >= 2;
  const start = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
  const type = /'descr':\s*'([^']+)'/.exec(header)?.[1] ?? "?";
  const shape = (/'shape':\s*\(([^)]*)\)/.exec(header)?.[1] ?? "")
    .split(",")
    .filter((part) => part.trim())
    .map(Number);
  if (/'fortran_order':\s*True/.test(header) && shape.length > 1)
    throw new FileProblem(`${name} is stored by column. Save it with numpy.ascontiguousarray.`);
  const kinds = /** @type {Record<string, string>} */ ({
    "<f2": "F16",
    "<f4": "F32",
    "<f8": "F64",
  });
  if (!(type in kinds))
    throw new FileProblem(
      `${name} holds ${type}; expected float16, float32 or float64, little-endian.`,
    );
  return asVectors(name, kinds[type], shape, new DataView(buffer, start + length));
}

/** @param {ArrayBuffer} buffer @returns {Vectors[]} */
export function readSafetensors(buffer) {
  const view = new DataView(buffer);
  const length = buffer.byteLength >= 8 ? Number(view.getBigUint64(0, true)) : -1;
  if (length < 0 || 8 + length > buffer.byteLength)
    throw new FileProblem("This is not a safetensors file, or it is cut off.");
  /** @type {Record<string, {dtype: string, shape: number[], data_offsets: [number, number]}>} */
  let header;
  try {
    header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw new FileProblem("The header of this safetensors file cannot be read.");
  }
  const found = [];
  for (const [name, entry] of Object.entries(header)) {
    if (
      name === "__metadata__" ||
      !["F16", "BF16", "F32", "F64"].includes(entry.dtype) ||
      ![1, 2].includes(entry.shape.length)
    )
      continue;
    found.push(
      asVectors(
        name,
        entry.dtype,
        entry.shape,
        new DataView(buffer, 8 + length + entry.data_offsets[0]),
      ),
    );
  }
  if (!found.length) throw new FileProblem("No tensor of one or two axes in this file.");
  return found;
}

const READERS = {
  F16: {
    size: 2,
    read: (/** @type {DataView} */ v, /** @type {number} */ at) => half(v.getUint16(at, true)),
  },
  BF16: {
    size: 2,
    read: (/** @type {DataView} */ v, /** @type {number} */ at) => bfloat(v.getUint16(at, true)),
  },
  F32: {
    size: 4,
    read: (/** @type {DataView} */ v, /** @type {number} */ at) => v.getFloat32(at, true),
  },
  F64: {
    size: 8,
    read: (/** @type {DataView} */ v, /** @type {number} */ at) => v.getFloat64(at, true),
  },
};

/**
 * @param {string} name
 * @param {string} type
 * @param {number[]} shape
 * @param {DataView} view
 * @returns {Vectors}
 */
function asVectors(name, type, shape, view) {
  if (shape.length !== 1 && shape.length !== 2)
    throw new FileProblem(
      `${name} has ${shape.length} axes; expected [vectors, width] or [width].`,
    );
  const [rows, width] = shape.length === 1 ? [1, shape[0]] : shape;
  const { size, read } = READERS[/** @type {keyof typeof READERS} */ (type)];
  if (!rows || !width) throw new FileProblem(`${name} holds no vectors.`);
  if (view.byteLength < rows * width * size)
    throw new FileProblem(`${name} is cut off: ${rows} × ${width} values announced, fewer found.`);
  return {
    name,
    rows,
    width,
    at: (row) => Array.from({ length: width }, (_, i) => read(view, (row * width + i) * size)),
  };
}

/** @param {number} bits */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1,
    exponent = (bits >> 10) & 31,
    fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
}

/** @param {number} bits */
function bfloat(bits) {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits << 16);
  return view.getFloat32(0);
}
