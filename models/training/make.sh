#!/bin/sh
# Makes models/codes.tflite, the built-in model: environment, scenes, float training, quantization-aware training, export,
# evaluation. Each step whose result is there is skipped or goes on where it stopped.
#   MINUTES=95 SCENES=20000 PHOTOGRAPHS=FOLDER sh make.sh
# QAT_ONLY=1 starts from codes_float.npz, which is kept beside this file, and trains no float network.
set -eu
cd "$(dirname "$0")"
build=build
python=$build/venv/bin/python
minutes=${MINUTES:-95}
scenes=${SCENES:-20000}

if [ ! -e $build/venv/ready ]; then
    "${PYTHON:-python3.11}" -m venv $build/venv
    $build/venv/bin/pip install -r requirements.txt
    touch $build/venv/ready
fi

$python dataset.py --build $build --split train --scenes "$scenes"
$python dataset.py --build $build --split decoys --scenes $((scenes / 3))
$python dataset.py --build $build --split validation --scenes 500
$python dataset.py --build $build --split decoys_validation --scenes 500
$python dataset.py --build $build --split test --scenes 1000
$python dataset.py --build $build --split decoys_test --scenes 500

if [ -z "${QAT_ONLY:-}" ]; then
    $python train.py --build $build --minutes "$minutes"
    cp $build/float/weights.npz codes_float.npz
fi
if [ ! -e $build/qat/weights.npz ] || [ codes_float.npz -nt $build/qat/weights.npz ]; then
    $python quantization.py --build $build --weights codes_float.npz
fi
$python export.py --build $build --weights codes_float.npz --labels ../../labels/codes.txt \
    --float codes_float.tflite --post-training $build/codes_post_training.tflite --trained ../codes.tflite
$python evaluate.py --build $build codes_float.tflite $build/codes_post_training.tflite ../codes.tflite \
    ${PHOTOGRAPHS:+--photographs "$PHOTOGRAPHS"}
