"""Captioned pictures in the forms that people have them, behind one interface.

    folder        pictures with name.txt beside name.jpg, or metadata.jsonl or metadata.csv
    tfds          a data set of TensorFlow Datasets, built as array records
    webdataset    tar files: key.jpg with key.txt or key.json
    parquet       the bytes of a picture in one column, its captions in another

`spec.SourceSpec.open` chooses between them; `interface` is what they have in common. Nothing is
decoded here: `dg2_jax.data.screening` does that, and reports what is wrong.
"""
