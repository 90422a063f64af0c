/** @file
  In the place of a boot manager: starts the kernel that QemuKernelLoaderFsDxe has compared with the measured hashes. No
  boot options, no drivers of devices, no second choice: if the kernel can't be had, or returns, the machine ends.

  Devices are left to the kernel. What it can't do without ACPI tables, which are the host's word, is to find out to which
  interrupts they lead: all of them lead to one here, and the devices' registers say which.

  SPDX-License-Identifier: BSD-2-Clause-Patent
**/

#include <PiDxe.h>

#include <Library/BaseLib.h>
#include <Library/DebugLib.h>
#include <Library/IoLib.h>
#include <Library/PciLib.h>
#include <Library/QemuLoadImageLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>
#include <IndustryStandard/Pci22.h>
#include <Protocol/Bds.h>

#define PCI_IRQ  11

//
// The routes of PIRQA to PIRQD and of PIRQE to PIRQH, in the LPC bridge, and the register that makes interrupts 8 to 15
// edge- or level-triggered (Intel I/O Controller Hub 9 Datasheet, 13.1 and 13.4).
//
#define ICH9_PIRQA_ROUT  0x60
#define ICH9_PIRQE_ROUT  0x68
#define ICH9_ELCR2       0x4D1

/**
  Leads all of the chipset's PCI interrupts to one input of the interrupt controller, level-triggered, and tells the kernel
  by the devices' Interrupt Line registers (PCI Local Bus Specification 3.0, 6.2.4). Of what the host has put there only the
  presence of a device and of an interrupt pin matter.
**/
STATIC
VOID
RouteInterrupts (
  VOID
  )
{
  UINTN  Pirq;
  UINTN  Device;
  UINTN  Function;

  for (Pirq = 0; Pirq < 4; Pirq++) {
    PciWrite8 (PCI_LIB_ADDRESS (0, 0x1F, 0, ICH9_PIRQA_ROUT + Pirq), PCI_IRQ);
    PciWrite8 (PCI_LIB_ADDRESS (0, 0x1F, 0, ICH9_PIRQE_ROUT + Pirq), PCI_IRQ);
  }

  IoWrite8 (ICH9_ELCR2, 1 << (PCI_IRQ - 8));

  for (Device = 0; Device <= PCI_MAX_DEVICE; Device++) {
    for (Function = 0; Function <= PCI_MAX_FUNC; Function++) {
      if (PciRead16 (PCI_LIB_ADDRESS (0, Device, Function, PCI_VENDOR_ID_OFFSET)) == MAX_UINT16) {
        continue;
      }

      if (PciRead8 (PCI_LIB_ADDRESS (0, Device, Function, PCI_INT_PIN_OFFSET)) != 0) {
        PciWrite8 (PCI_LIB_ADDRESS (0, Device, Function, PCI_INT_LINE_OFFSET), PCI_IRQ);
      }
    }
  }
}

/**
  The DXE core calls this when it has nothing more to dispatch (PI 1.7, vol. 2, 12.2, BDS Architectural Protocol).
**/
STATIC
VOID
EFIAPI
BootKernel (
  IN EFI_BDS_ARCH_PROTOCOL  *This
  )
{
  EFI_STATUS  Status;
  EFI_HANDLE  Kernel;

  //
  // Whatever drivers only allow until the platform's own code has run ends here.
  //
  EfiEventGroupSignal (&gEfiEndOfDxeEventGroupGuid);

  RouteInterrupts ();

  Status = QemuLoadKernelImage (&Kernel);
  if (!EFI_ERROR (Status)) {
    EfiSignalEventReadyToBoot ();
    Status = QemuStartKernelImage (&Kernel);
  }

  DEBUG ((DEBUG_ERROR, "%a: no kernel, or it returned: %r\n", __func__, Status));
  gRT->ResetSystem (EfiResetShutdown, EFI_LOAD_ERROR, 0, NULL);
  CpuDeadLoop ();
}

STATIC EFI_BDS_ARCH_PROTOCOL  mBds = { BootKernel };

/**
  Entry point.

  @retval EFI_SUCCESS  The protocol is installed.
  @return              What kept it from being installed.
**/
EFI_STATUS
EFIAPI
BootKernelEntry (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  return gBS->InstallMultipleProtocolInterfaces (&ImageHandle, &gEfiBdsArchProtocolGuid, &mBds, NULL);
}
