/** @file
  Where the firmware has its GHCB and its local APIC, while the host answers for the registers that say so: run as a program,
  before the firmware is built of the same files.

  MSR_SEV_ES_GHCB may be read for the answer to a request that was just made through it, and for nothing else. The address is
  what the firmware chose, in SEC and in PEI, and kept in memory of its own.

  SPDX-License-Identifier: BSD-2-Clause-Patent
**/

#include <PiPei.h>
#include <Library/PcdLib.h>

#define _PCD_VALUE_PcdOvmfConfidentialComputingWorkAreaHeader      4
#define _PCD_VALUE_PcdOvmfSecGhcbBase                              SEC_GHCB
#define _PCD_VALUE_PcdOvmfSecGhcbSize                              (2 * SIZE_4KB)
#define _PCD_VALUE_PcdOvmfWorkAreaBase                             WORK_AREA
#define _PCD_VALUE_PcdSevEsWorkAreaBase                            (WORK_AREA + 4)
#define _PCD_VALUE_PcdOvmfSecApicPageTableBase                     0
#define _PCD_GET_MODE_32_PcdCpuLocalApicBaseAddress                LOCAL_APIC
#define _PCD_SET_MODE_64_S_PcdGhcbBase(Value)                      ((Value), RETURN_SUCCESS)
#define _PCD_SET_MODE_64_S_PcdGhcbSize(Value)                      ((Value), RETURN_SUCCESS)
#define _PCD_SET_MODE_64_S_PcdGhcbHypervisorFeatures(Value)        ((Value), RETURN_SUCCESS)
#define _PCD_SET_MODE_64_S_PcdPteMemoryEncryptionAddressOrMask(V)  ((V), RETURN_SUCCESS)
#define _PCD_SET_MODE_64_S_PcdConfidentialComputingGuestAttr(V)    ((V), RETURN_SUCCESS)
#define _PCD_SET_MODE_32_S_PcdOptionRomImageVerificationPolicy(V)  ((V), RETURN_SUCCESS)
#define _PCD_SET_MODE_BOOL_S_PcdSevEsIsEnabled(Value)              ((Value), RETURN_SUCCESS)
#define _PCD_GET_MODE_32_PcdCpuInitIpiDelayInMicroSeconds          0
#define _PCD_GET_MODE_32_PcdOvmfSnpSecretsBase                     0
#define _PCD_GET_MODE_32_PcdOvmfSnpSecretsSize                     0
#define _PCD_GET_MODE_32_PcdOvmfCpuidBase                          0
#define _PCD_GET_MODE_32_PcdOvmfCpuidSize                          0
#define _PCD_GET_MODE_32_PcdOvmfSecSvsmCaaBase                     0
#define _PCD_GET_MODE_32_PcdOvmfSecSvsmCaaSize                     0
#define _PCD_GET_MODE_32_PcdOvmfSecValidatedStart                  0
#define _PCD_GET_MODE_32_PcdOvmfSecValidatedEnd                    0
#define SEC_GHCB                                                   0x809000
#define WORK_AREA                                                  0x80B000
#define LOCAL_APIC                                                 0xFEE00000
// Where the host says that they are.
#define LIE                                                        0x666000

CHAR8  *gEfiCallerBaseName = "";

#include "OvmfPkg/Sec/AmdSev.c"
// The same routine, again.
#define SevEsProtocolFailure  PeiSevEsProtocolFailure
#include "OvmfPkg/PlatformPei/AmdSev.c"
#include "UefiCpuPkg/Library/BaseXApicX2ApicLib/BaseXApicX2ApicLib.c"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

STATIC UINT8    mPeiGhcb[2 * SIZE_4KB] __attribute__ ((aligned (SIZE_4KB)));
STATIC UINT64   mGhcbMsr;
STATIC BOOLEAN  mAnswered;
STATIC VOID     *mAsked;
// What the firmware had noted when it gave SEC's GHCB back.
STATIC UINT64   mNoted;

STATIC VOID
Expect (CONST CHAR8 *What, UINT64 Is, UINT64 Wanted)
{
  if (Is != Wanted) {
    printf ("%s: %llx in the place of %llx\n", What, Is, Wanted);
    exit (1);
  }
}

//
// The host.
//

VOID EFIAPI
AsmVmgExit (VOID)
{
  mAnswered = TRUE;
  switch (mGhcbMsr & 0xFFF) {
    case GHCB_INFO_SEV_INFO_GET:
      mGhcbMsr = (2ULL << 48) | (1ULL << 32) | GHCB_INFO_SEV_INFO;
      break;
    case GHCB_HYPERVISOR_FEATURES_REQUEST:
      mGhcbMsr = (GHCB_HV_FEATURES_SNP << 12) | GHCB_HYPERVISOR_FEATURES_RESPONSE;
      break;
    case GHCB_INFO_GHCB_GPA_REGISTER_REQUEST:
      mGhcbMsr = (mGhcbMsr & ~0xFFFULL) | GHCB_INFO_GHCB_GPA_REGISTER_RESPONSE;
      break;
    default:
      Expect ("a request", mGhcbMsr, 0);
  }
}

UINT64 EFIAPI
AsmReadMsr64 (UINT32 Index)
{
  if ((Index != MSR_SEV_ES_GHCB) || !mAnswered) {
    printf ("a register that the host answers for is read: %x\n", Index);
    exit (1);
  }

  mAnswered = FALSE;
  return mGhcbMsr;
}

UINT64 EFIAPI
AsmWriteMsr64 (UINT32 Index, UINT64 Value)
{
  Expect ("the register", Index, MSR_SEV_ES_GHCB);
  mAnswered = FALSE;
  mGhcbMsr  = Value;
  return Value;
}

UINT32 EFIAPI
AsmReadMsr32 (UINT32 Index)
{
  Expect ("the register", Index, MSR_SEV_STATUS);
  return BIT0 | BIT1 | BIT2;
}

UINT64 EFIAPI
CcExitVmgExit (GHCB *Ghcb, UINT64 ExitCode, UINT64 Info1, UINT64 Info2)
{
  mAsked = Ghcb;
  return 0;
}

UINT32 EFIAPI
AsmCpuid (UINT32 Index, UINT32 *Eax, UINT32 *Ebx, UINT32 *Ecx, UINT32 *Edx)
{
  UINT32  Other;

  *(Eax ? Eax : &Other) = 0x00A10F10;
  *(Ebx ? Ebx : &Other) = *(Ecx ? Ecx : &Other) = *(Edx ? Edx : &Other) = MAX_UINT32;
  return Index;
}

//
// The machine.
//

RETURN_STATUS EFIAPI
MemEncryptSevSetPageEncMask (PHYSICAL_ADDRESS Cr3, PHYSICAL_ADDRESS Address, UINTN Pages)
{
  Expect ("the page that is no longer shared", Address, SEC_GHCB);
  mNoted = SEV_ES_GHCB_BASE;
  return RETURN_SUCCESS;
}

VOID EFIAPI
DebugAssert (CONST CHAR8 *File, UINTN Line, CONST CHAR8 *What)
{
  Expect (What, Line, 0);
}

VOID EFIAPI    CpuDeadLoop (VOID) { exit (1); }
BOOLEAN EFIAPI DebugAssertEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI DebugPrintEnabled (VOID) { return FALSE; }
BOOLEAN EFIAPI DebugPrintLevelEnabled (CONST UINTN Level) { return FALSE; }
VOID EFIAPI    DebugPrint (UINTN Level, CONST CHAR8 *Format, ...) {}
VOID *EFIAPI   CopyMem (VOID *To, CONST VOID *From, UINTN Size) { return memmove (To, From, Size); }
VOID *EFIAPI   SetMem (VOID *To, UINTN Size, UINT8 Value) { return memset (To, Value, Size); }
VOID *EFIAPI   ZeroMem (VOID *To, UINTN Size) { return memset (To, 0, Size); }
UINT64 EFIAPI  RShiftU64 (UINT64 Value, UINTN Count) { return Value >> Count; }
UINT64 EFIAPI  LShiftU64 (UINT64 Value, UINTN Count) { return Value << Count; }
UINT32 EFIAPI  BitFieldRead32 (UINT32 Value, UINTN From, UINTN To) { return (Value >> From) & ((2U << (To - From)) - 1); }
VOID EFIAPI    CcExitVmgInit (GHCB *Ghcb, BOOLEAN *State) {}
VOID EFIAPI    CcExitVmgDone (GHCB *Ghcb, BOOLEAN State) {}
BOOLEAN EFIAPI MemEncryptSevEsIsEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI MemEncryptSevSnpIsEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI TdIsEnabled (VOID) { return FALSE; }
UINTN EFIAPI   TdVmCall (UINT64 Leaf, UINT64 A, UINT64 B, UINT64 C, UINT64 D, VOID *Out) { return 0; }
VOID *EFIAPI   AllocateReservedPages (UINTN Pages) { return mPeiGhcb; }
VOID *EFIAPI   AllocatePages (UINTN Pages) { return calloc (Pages, SIZE_4KB); }
VOID EFIAPI    AsmReadGdtr (IA32_DESCRIPTOR *Gdtr) { Gdtr->Base = (UINTN)mPeiGhcb; Gdtr->Limit = 7; }
VOID EFIAPI    AsmWriteGdtr (CONST IA32_DESCRIPTOR *Gdtr) {}

RETURN_STATUS EFIAPI
MemEncryptSevClearPageEncMask (PHYSICAL_ADDRESS Cr3, PHYSICAL_ADDRESS Address, UINTN Pages)
{
  return RETURN_SUCCESS;
}

int
main (void)
{
  EFI_HOB_PLATFORM_INFO  Platform;
  VOID                   *Memory;

  Memory = mmap (
             (VOID *)SEC_GHCB,
             3 * SIZE_4KB,
             PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
             -1,
             0
             );
  if (Memory == MAP_FAILED) {
    perror ("SEC's memory");
    return 1;
  }

  SevEsProtocolCheck ();
  Expect ("SEC's GHCB", SEV_ES_GHCB_BASE, SEC_GHCB);
  Expect ("SEC's GHCB, for the host", mGhcbMsr, SEC_GHCB);

  mGhcbMsr = LIE;
  GetHypervisorFeature ();
  Expect ("the GHCB with the request for features", (UINTN)mAsked, SEC_GHCB);

  // As between registration and use, where #VC is handled with SEC's.
  mGhcbMsr = LIE;
  GhcbRegister ((UINTN)mPeiGhcb);
  Expect ("SEC's GHCB, after the other was registered", mGhcbMsr, SEC_GHCB);

  memset (&Platform, 0, sizeof (Platform));
  Platform.PcdCpuMaxLogicalProcessorNumber = 1;
  mGhcbMsr                                 = LIE;
  AmdSevEsInitialize (&Platform);
  Expect ("PEI's GHCB", SEV_ES_GHCB_BASE, (UINTN)mPeiGhcb);
  Expect ("PEI's GHCB, for the host", mGhcbMsr, (UINTN)mPeiGhcb);
  Expect ("PEI's GHCB, when SEC's is given back", mNoted, (UINTN)mPeiGhcb);

  mGhcbMsr = LIE;
  GetHypervisorFeature ();
  Expect ("the GHCB with the request for features", (UINTN)mAsked, (UINTN)mPeiGhcb);

  Expect ("the local APIC", GetLocalApicBaseAddress (), LOCAL_APIC);
  Expect ("the local APIC's mode", GetApicMode (), LOCAL_APIC_MODE_XAPIC);
  SetApicMode (LOCAL_APIC_MODE_X2APIC);
  SetLocalApicBaseAddress (LIE);
  Expect ("the local APIC", GetLocalApicBaseAddress (), LOCAL_APIC);
  return 0;
}
